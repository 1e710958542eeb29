"""Equations and user expressions -> one graph: what depends on what, in which order, over which axes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import cast

from pint.facets.plain import PlainUnit as Unit

from servegrid import expression
from servegrid.errors import InputError, nearest
from servegrid.node import Body, Call, Node
from servegrid.procedure import Procedure
from servegrid.quantity import Kind, Quantity, quantity_of
from servegrid.reading import read_equation
from servegrid.solvers import Solver
from servegrid.units import UnitError, parse_unit, registry


@dataclass(frozen=True)
class Expression:
    """A user's expression (`derive`, `where`) before its unit is known; `where` names its place in messages."""

    tree: ast.expr
    text: str
    where: str
    unit: str | None = None
    long_name: str | None = None
    flag: bool = False  # whether it has to be a comparison


@dataclass(frozen=True)
class Graph:
    """The nodes that the outputs need, in an order in which each can be computed, and the inputs."""

    nodes: Mapping[str, Node]
    inputs: Mapping[str, Quantity]
    outputs: tuple[str, ...]

    def quantity(self, name: str) -> Quantity:
        """What is declared about a quantity of the graph."""
        return self.nodes[name].quantity if name in self.nodes else self.inputs[name]

    @property
    def calls(self) -> tuple[Call, ...]:
        """The procedures that are called."""
        return tuple({node.call.procedure.name: node.call for node in self.nodes.values() if node.call}.values())

    @property
    def free(self) -> tuple[str, ...]:
        """What the responses of all procedures take from outside."""
        return tuple(dict.fromkeys(name for call in self.calls for name in call.free))

    def coded(self, tree: ast.expr) -> ast.expr:
        """The tree with the texts of labels as their codes."""
        return expression.coded(tree, lambda name: self.quantity(name).labels, "")

    def axes(self, input_axes: Mapping[str, Sequence[str]], order: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The axes of every quantity, in the order of the sweep's: the union of those of what it needs."""
        axes = {name: tuple(axis for axis in order if axis in input_axes[name]) for name in self.inputs}
        for name, node in self.nodes.items():
            needed = {axis for need in node.needs for axis in axes[need]}
            axes[name] = tuple(axis for axis in order if axis in needed)
        return axes


def build(
    solver: Solver,
    outputs: Sequence[str],
    given: Iterable[str] = (),
    expressions: Mapping[str, Expression] | None = None,
) -> Graph:
    """The graph that gives `outputs` from the solver's equations and the user's expressions.

    A quantity in `given` has a value, which replaces its equation. InputError for unknown names, cycles, and
    quantities of different dimensions that are added or compared.
    """
    builder = _Builder(solver, frozenset(given), expressions or {})
    for output in outputs:
        builder.visit(output, "outputs", ())
    return Graph(builder.nodes, builder.inputs, tuple(outputs))


class _Builder:
    """Depth-first search from the outputs; a node is added after all that it needs."""

    def __init__(self, solver: Solver, given: frozenset[str], expressions: Mapping[str, Expression]) -> None:
        self.solver, self.given, self.expressions = solver, given, expressions
        self.nodes: dict[str, Node] = {}
        self.inputs: dict[str, Quantity] = {}
        self.asked: dict[str, Quantity] = {}  # what is computed within responses

    def visit(self, name: str, wanted_by: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = " needs ".join((*path[path.index(name) :], name))
            raise InputError(f"{wanted_by}: a quantity cannot depend on itself, but {cycle}")
        if name in self.nodes or name in self.inputs:
            return
        if name in self.expressions:
            self.add_expression(name, (*path, name))
        elif name in self.given or name in self.solver.inputs:
            self.add_input(name, wanted_by)
        elif name in self.solver.equations:
            self.add_equation(name, (*path, name))
        elif name in self.solver.procedures:
            self.add_call(self.solver.procedures[name], (*path, name))
        else:
            raise self.unknown(name, wanted_by)

    def add_expression(self, name: str, path: tuple[str, ...]) -> None:
        expr = self.expressions[name]
        for need in expression.names(expr.tree):
            self.visit(need, expr.where, path)
        self.nodes[name] = self.read(name)

    def describe(self, name: str, expr: Expression) -> Quantity:
        kind = expression.kind_of(expr.tree, lambda need: self.quantity(need).kind, expr.where)
        expression.coded(expr.tree, lambda need: self.quantity(need).labels, expr.where)
        replaced = quantity_of(self.solver.equations[name]) if name in self.solver.equations else None
        if replaced is not None and not _may_replace(kind, replaced):
            raise InputError(f"{expr.where}: got {expression.short(expr.text)!r}, expected {replaced.expected}")
        if expr.flag and kind != "bool":
            raise InputError(
                f"{expr.where}: got {expression.short(expr.text)!r}, expected a comparison such as 'ttft <= 0.5'"
            )
        inferred = expression.infer_unit(expr.tree, lambda need: self.quantity(need).unit, expr.where)
        if expr.unit is not None and inferred is not None:
            check_declared(expr, expr.unit, inferred)
        if replaced is not None:
            if inferred is not None:
                check_declared(expr, replaced.unit, inferred)
            return replace(replaced, source=f"user expression: {expr.text}")
        unit = expr.unit if expr.unit is not None else spell(inferred, expr.tree)
        labels = self.quantity(ast.unparse(expr.tree)).labels if kind == "label" else ()  # another name for a label
        return Quantity(name, unit, expr.long_name or expr.text, kind, source="user expression", labels=labels)

    def add_input(self, name: str, wanted_by: str) -> None:
        if name not in self.solver.names:
            raise self.unknown(name, wanted_by)
        self.inputs[name] = self.solver.quantity(name)

    def add_equation(self, name: str, path: tuple[str, ...]) -> None:
        for need in self.needs(name):
            self.visit(need, name, path)
        self.nodes[name] = self.read(name)

    def add_call(self, procedure: Procedure, path: tuple[str, ...]) -> None:
        name = procedure.name
        for need in procedure.needs:
            self.visit(need, name, path)
        bodies, free = [], dict[str, None]()
        for response in procedure.responses:
            changed = {*response.of, *response.fixed}
            order = self.dependent(response.gives, changed)
            wanted = [need for inner in order for need in self.needs(inner)] or [response.gives]
            for need in wanted:
                if need not in changed and need not in order:
                    self.visit(need, name, path)
                    free[need] = None
            self.asked |= {need: self.solver.quantity(need) for need in changed}
            nodes = {}
            for inner in order:
                nodes[inner] = self.read(inner)
                self.asked[inner] = nodes[inner].quantity
            bodies.append(Body(response, nodes))
        call = Call(procedure, tuple(bodies), tuple(free))
        for result in procedure.results:
            mine = self.solver.procedures.get(result.name) is procedure  # or an equation gives it
            if mine and result.name not in self.given and result.name not in self.expressions:
                self.nodes[result.name] = Node(result, call.needs, (), call=call)

    def dependent(self, name: str, changed: Collection[str]) -> tuple[str, ...]:
        """The quantities from `changed` to `name` that depend on those, in an order in which each can be computed."""
        known: dict[str, bool] = {}

        def depends(name: str, path: tuple[str, ...]) -> bool:
            if name in path:
                cycle = " needs ".join((*path[path.index(name) :], name))
                raise InputError(f"{path[0]}: a quantity cannot depend on itself, but {cycle}")
            if name not in known and name not in changed:
                found = [depends(need, (*path, name)) for need in self.needs(name)]
                known[name] = any(found)
            return name in changed or known[name]

        depends(name, ())
        return tuple(name for name, found in known.items() if found)

    def needs(self, name: str) -> tuple[str, ...]:
        """What is needed directly; nothing where an input is, or what another procedure gives."""
        if name in self.expressions:
            return expression.names(self.expressions[name].tree)
        if name in self.given or name not in self.solver.equations:
            return ()
        return read_equation(self.solver.equations[name]).needs

    def read(self, name: str) -> Node:
        """The node of an expression or an equation, all of whose needs are known."""
        if name in self.expressions:
            expr = self.expressions[name]
            return Node(self.describe(name, expr), self.needs(name), ((name, expr.tree),))
        node = read_equation(self.solver.equations[name])
        check_unit(node, self.quantity)
        return node

    def quantity(self, name: str) -> Quantity:
        if name in self.nodes:
            return self.nodes[name].quantity
        return self.inputs[name] if name in self.inputs else self.asked[name]

    def unknown(self, name: str, wanted_by: str) -> InputError:
        known = self.solver.names | set(self.expressions)
        return InputError(
            f"{wanted_by}: unknown quantity {name!r}{nearest(name, known)}, "
            f"expected a quantity of the solver {self.solver.name} or one that is derived"
        )


def _may_replace(kind: Kind, replaced: Quantity) -> bool:
    """Whether an expression of this kind may stand for an equation: numbers for numbers, flags for flags."""
    return "label" not in (kind, replaced.kind) and (kind == "bool") == (replaced.kind == "bool")


def check_unit(node: Node, quantity: Callable[[str], Quantity]) -> None:
    """Raise InputError unless the units of what a node needs give the unit that it declares."""
    units = {need: quantity(need).unit for need in node.needs}
    where = f"equation {node.quantity.name}"
    try:
        declared = parse_unit(node.quantity.unit)
    except UnitError as error:
        raise InputError(f"{where}: {error}") from None
    inferred: Unit | None = None
    for name, tree in node.steps:
        inferred = expression.infer_unit(tree, units.__getitem__, where)
        units[name] = "1" if inferred is None else f"{inferred}"
    if inferred is not None and declared.dimensionality != inferred.dimensionality:
        raise InputError(f"{where}: declared in {node.quantity.unit}, but its formula gives {inferred:~}")


def check_declared(expr: Expression, declared: str, inferred: Unit) -> None:
    """Raise InputError unless the declared unit is the one that the expression gives, or the writer converted."""
    got = registry().Quantity(1.0, inferred)
    if not got.is_compatible_with(parse_unit(declared)):
        raise InputError(f"{expr.where}: got the unit {declared!r}, expected {spell(inferred, expr.tree)}")
    factor = float(got.m_as(parse_unit(declared)))
    if not (isclose(factor, 1) or _converts_by(expr.tree, factor)):
        raise InputError(
            f"{expr.where}: the expression is in {spell(inferred, expr.tree)}, not {declared}: "
            f"multiply it by {factor:g}, or leave the unit out"
        )


def _converts_by(tree: ast.expr, factor: float) -> bool:
    """Whether the factor, or what divides by it, is written in the expression."""
    constants = [float(cast(float, node.value)) for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return any(isclose(constant, other) for constant in constants for other in (factor, 1 / factor))


def spell(unit: Unit | None, tree: ast.expr) -> str:
    """The unit of an expression as text; "1" for a bare number.

    Where hours meet seconds and the writer multiplied by 3600, the conversion was made by hand and the two
    cancel: `throughput * 3600 / price_per_hour` is in token/USD.
    """
    if unit is None:
        return "1"
    quantity = registry().Quantity(1.0, unit)
    reduced = quantity.to_reduced_units()
    chosen = reduced.units if _converts_by(tree, float(reduced.magnitude)) else quantity.units
    text = f"{chosen:~C}".replace("**", "^")
    return text or "1"
