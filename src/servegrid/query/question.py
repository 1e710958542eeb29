"""What is asked, checked, and turned into a program: objectives, a filter, and axes with an answer for each label."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

from servegrid import expression
from servegrid.errors import InputError, nearest, shown
from servegrid.graph import Expression, Graph
from servegrid.parameters import FEASIBLE
from servegrid.program import Program
from servegrid.query.source import Axes, Numbers, Source
from servegrid.sweepfile import ASKED

Direction = Literal["maximize", "minimize"]

SCORE = f"{ASKED}score"  # how good a point is, higher is better; -inf where it does not count
VALUE = f"{ASKED}value"  # a quantity where the point counts, NaN elsewhere
MET = f"{ASKED}met"  # whether the point counts
CONDITION = f"{ASKED}condition"
_NO_NUMBERS: Mapping[str, str] = {"bool": "flag", "label": "label"}


@dataclass(frozen=True)
class Objective:
    """An expression that is to be as high, or as low, as can be; `name` is what answers call it."""

    text: str
    direction: Direction
    name: str

    @property
    def sign(self) -> str:
        """What turns it so that higher is better."""
        return "-" if self.direction == "minimize" else ""


@dataclass(frozen=True)
class Question:
    """What is asked of a source.

    `where`: the filter; without one, that of the source. `per`: axes; there is an answer for each of their labels.
    `outputs`: what the answer shows of a point besides the objectives.
    """

    source: Source
    objectives: tuple[Objective, ...] = ()
    where: str | None = None
    per: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        source: Source,
        maximize: str | Sequence[str] | None = None,
        minimize: str | Sequence[str] | None = None,
        where: str | None = None,
        per: str | Sequence[str] = (),
        outputs: str | Sequence[str] | None = None,
    ) -> Question:
        """The question in the words of a user; InputError where they make no sense."""
        written = [(text, "maximize") for text in _texts(maximize, "maximize")]
        written += [(text, "minimize") for text in _texts(minimize, "minimize")]
        objectives = []
        for number, (text, direction) in enumerate(written, 1):
            called = text if source.knows(text) else f"objective_{number}" if len(written) > 1 else "objective"
            objectives.append(Objective(text, "maximize" if direction == "maximize" else "minimize", called))
        if len({objective.text for objective in objectives}) < len(objectives):
            raise InputError(f"the same objective is given twice: got {', '.join(text for text, _ in written)}")
        if where is not None and not isinstance(where, str):
            raise InputError(f"where: got {shown(where)}, expected an expression, as text")
        shown_outputs = source.outputs if outputs is None else tuple(dict.fromkeys(_texts(outputs, "outputs")))
        chosen = source.where if where is None else where
        return cls(source, tuple(objectives), chosen, _axes(source, per), shown_outputs)

    @cached_property
    def conditions(self) -> tuple[tuple[str, ast.expr], ...]:
        """The parts of the filter that all have to hold, as text and tree."""
        if self.where is None:
            return ()
        tree = expression.parse(self.where, "where")
        parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        return tuple((ast.unparse(part), part) for part in parts)

    @cached_property
    def flags(self) -> dict[str, str]:
        """Name -> text of everything that has to be true of a point."""
        names = [objective.name for objective in self.objectives]
        fits = {FEASIBLE: FEASIBLE} if self.source.can_be_infeasible(names, self.conditional) else {}
        return fits | {f"{CONDITION}_{number}": text for number, (text, _) in enumerate(self.conditions, 1)}

    def title(self, what: str = "") -> str:
        """The question in words; `what` is asked for, or the objectives are."""
        objectives = " and ".join(f"{objective.direction} {objective.text}" for objective in self.objectives)
        written = self.source.where_text if self.where == self.source.where else self.where
        where = f" where {written}" if written else ""
        per = f" per {', '.join(self.per)}" if self.per else ""
        return f"{what or objectives}{where}{per}"

    @cached_property
    def conditional(self) -> dict[str, Expression]:
        """An expression for each part of the filter, and for each objective that is no quantity by itself."""
        found = {
            f"{CONDITION}_{number}": Expression(tree, text, "where", flag=True)
            for number, (text, tree) in enumerate(self.conditions, 1)
        }
        for objective in self.objectives:
            if not self.source.knows(objective.text):
                tree = expression.parse(objective.text, objective.direction)
                found[objective.name] = Expression(tree, objective.text, objective.direction)
        return found

    def numbers(self, outputs: Sequence[str], more: Mapping[str, str] | None = None) -> Numbers:
        """What computes these quantities: `more` are further expressions, by name."""
        _ = self._checked_objectives
        asked = {
            name: Expression(expression.parse(text, "where"), text, "where") for name, text in (more or {}).items()
        }
        return self.source.numbers(outputs, {**self.conditional, **asked})

    @cached_property
    def _checked_objectives(self) -> None:
        for objective in self.objectives:
            self.check_number(objective.text, objective.direction)

    def check_number(self, text: str, where: str) -> None:
        """Raise InputError, which names `where`, unless the expression is a number that the source can give."""
        known = {VALUE: Expression(expression.parse(text, where), text, where)}
        kind = self.source.numbers([VALUE], known).graph.quantity(VALUE).kind
        if kind in _NO_NUMBERS:
            raise InputError(f"{where}: got {shown(text)}, a {_NO_NUMBERS[kind]}, expected a number")

    def counting(self, value: str) -> str:
        """The text of an expression that is `value` where a point counts, and NaN elsewhere."""
        return f"({value}) if {' and '.join(self.flags)} else nan" if self.flags else value

    def scores(self) -> dict[str, str]:
        """The score of each objective, as text: higher is better, -inf where a point does not count."""
        exist = [f"{objective.sign}{objective.name} > -inf" for objective in self.objectives]  # which NaN is not
        counts = " and ".join([*self.flags, *exist])
        return {
            f"{SCORE}_{number}": f"{objective.sign}{objective.name} if {counts} else -inf"
            for number, objective in enumerate(self.objectives, 1)
        }


def _texts(given: str | Sequence[str] | None, where: str) -> list[str]:
    texts: list[Any] = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{where}: got {shown(text)}, expected a quantity or an expression, as text")
    return [str(text).strip() for text in texts]


def _axes(source: Source, per: str | Sequence[str]) -> tuple[str, ...]:
    names = _texts(per, "per")
    axes = [str(axis) for axis in source.labels.dims]
    for name in names:
        if name not in axes:
            raise InputError(
                f"per: unknown axis {shown(name)}{nearest(str(name), axes)}, expected one of {', '.join(axes)}"
            )
    if len(set(names)) < len(names):
        raise InputError(f"per: got {', '.join(names)}, expected each axis once")
    return tuple(names)


# --- the program --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A question's program: the axes of `per` come first, so that each group of points is contiguous.

    `looks`: sets of quantities that are looked at together, along the same axes.
    """

    numbers: Numbers
    sizes: Mapping[str, int]
    per: tuple[str, ...]
    looks: tuple[tuple[str, ...], ...]

    @property
    def graph(self) -> Graph:
        """The equations."""
        return self.numbers.graph

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The axes of the loops."""
        return (*self.per, *(axis for axis in self.sizes if axis not in self.per))

    @cached_property
    def axes(self) -> Axes:
        """The axes of every quantity, in the order of the loops."""
        return self.graph.axes(self.numbers.dims, self.order)

    @cached_property
    def program(self) -> Program:
        """The loop nests."""
        return Program(self.graph, self.axes, self.order)

    def along(self, look: Sequence[str]) -> tuple[str, ...]:
        """The axes of what is looked at."""
        return self.axes[look[0]]

    def groups(self, look: Sequence[str]) -> tuple[str, ...]:
        """Those of its axes for each of whose labels there is an answer."""
        return tuple(axis for axis in self.along(look) if axis in self.per)

    def shape(self, axes: Sequence[str]) -> tuple[int, ...]:
        """The lengths of axes."""
        return tuple(self.sizes[axis] for axis in axes)

    def repeated(self, look: Sequence[str]) -> int:
        """How many points of a group share each value that is looked at: they differ along other axes alone."""
        return prod(size for axis, size in self.sizes.items() if axis not in self.along(look) and axis not in self.per)
