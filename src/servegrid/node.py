"""What a graph is made of: equations and calls of procedures, as data."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from servegrid import expression
from servegrid.handwritten import written_out
from servegrid.procedure import Procedure
from servegrid.quantity import Quantity
from servegrid.response import Response


@dataclass(frozen=True)
class Node:
    """One quantity as data: those that it needs, and how it is computed.

    `steps` are assignments in order; the last one gives the quantity itself. `calls` has the steps that are the result
    of a helper function, and each call as it is written. What a procedure gives has its `call` in place of steps.
    """

    quantity: Quantity
    needs: tuple[str, ...]
    steps: tuple[tuple[str, ast.expr], ...]
    calls: Mapping[str, ast.expr] = field(default_factory=dict)
    call: Call | None = None

    @property
    def formula(self) -> str:
        """The whole equation as text, its helper functions written out; a step that is used again is named at the end.

        Names of steps do not count: the same equation with other ones has the same text.
        """
        return self.call.text if self.call else self._text(dict(self.steps[:-1]))

    @property
    def written(self) -> str:
        """The equation as text for people, with calls of helper functions by their names."""
        if self.call:
            return f"{self.call.procedure.name}(...)"
        return self._text({**dict(self.steps[:-1]), **self.calls})

    def _text(self, local: Mapping[str, ast.expr]) -> str:
        uses: Counter[str] = Counter()
        todo = [self.steps[-1][1]]
        while todo:
            used = [node.id for node in ast.walk(todo.pop()) if isinstance(node, ast.Name) and node.id in local]
            todo += [local[name] for name in {*used} - uses.keys()]
            uses.update(used)
        again = {name: f"_{place}" for place, name in enumerate((name for name in local if uses[name] > 1), 1)}
        inlined = Substitute({**local, **{name: ast.Name(short) for name, short in again.items()}})
        whole = expression.worded(inlined.visit(copy(self.steps[-1][1])), self.quantity.labels)
        named = [f"{short} = {ast.unparse(inlined.visit(copy(local[name])))}" for name, short in again.items()]
        return ", ".join([ast.unparse(whole), *named])


@dataclass(frozen=True)
class Body:
    """A response with the equations that depend on its arguments, in an order in which they can be computed."""

    response: Response
    nodes: Mapping[str, Node]


@dataclass(frozen=True)
class Call:
    """A procedure in a graph, with the equations that it asks.

    `free`: the quantities that those take from outside, the same at every time that they are asked.
    """

    procedure: Procedure
    bodies: tuple[Body, ...]
    free: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """The quantities that must be there before it."""
        return tuple(dict.fromkeys((*self.procedure.needs, *self.free)))

    @cached_property
    def text(self) -> str:
        """All that it computes, for a hash."""
        formulas = [
            f"{body.response.name} {dict(body.response.fixed)} {target} = {ast.unparse(tree)}"
            for body in self.bodies
            for node in body.nodes.values()
            for target, tree in node.steps
        ]
        source = written_out(*self.procedure.groups, self.procedure.function)
        return "\n".join([source, *self.free, *formulas])


class Rename(ast.NodeTransformer):
    """Replaces names by trees, once: what is put in is not looked at again."""

    def __init__(self, by: Mapping[str, ast.expr]) -> None:
        self.by = by

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy(self.by[node.id]) if node.id in self.by else node


class Substitute(Rename):
    """Replaces names by trees, and names in those."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.visit(copy(self.by[node.id])) if node.id in self.by else node


def copy(tree: ast.expr) -> ast.expr:
    """The tree once more, to be changed."""
    return ast.parse(ast.unparse(tree), mode="eval").body
