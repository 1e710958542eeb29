"""One point: the same equations as plain Python, with every step on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from servegrid import show
from servegrid.evaluate import Evaluator
from servegrid.facts import LABELS
from servegrid.graph import Graph
from servegrid.parameters import Parameters, gather
from servegrid.program import Program
from servegrid.quantity import Quantity
from servegrid.sheet import Sheet
from servegrid.solvers import Solver
from servegrid.sweepfile import Sweep


def all_values(parameters: Parameters) -> dict[str, float]:
    """All quantities of a sweep without axes; compiled where a procedure is called, which takes too long in Python."""
    graph = parameters.graph
    if not graph.calls:
        return solve_point(parameters.sweep.solver, graph, {name: float(v) for name, v in parameters.inputs.items()})
    everything = Program(replace(graph, outputs=tuple(graph.nodes)), dict.fromkeys(parameters.axes, ()), ())
    numbers = {name: float(values) for name, values in parameters.inputs.items() if not everything.is_series(name)}
    found = Evaluator(everything, {}, parameters.inputs).region({})
    return numbers | {name: float(values) for name, values in found.items()}


def solve_point(solver: Solver, graph: Graph, inputs: Mapping[str, float]) -> dict[str, float]:
    """All quantities of the graph at one point, by calling the solver's equations one after the other.

    Numbers are floats, as they are in compiled code, so that both give the same bits.
    """
    found = {name: float(inputs[name]) for name in graph.inputs}
    for name, node in graph.nodes.items():
        found[name] = solver.equations[name](**{need: found[need] for need in node.needs})
    return found


@dataclass(frozen=True)
class Walkthrough:
    """Every quantity of one point with its value and equation, from the datasheet to the results."""

    graph: Graph
    values: Mapping[str, float]
    origins: Mapping[str, str]
    title: str

    @classmethod
    def of(cls, sweep: Sweep) -> Walkthrough:
        """Solve a sweep without axes."""
        parameters = gather(sweep)
        values = all_values(parameters)
        chosen = [str(sweep.values[name]) for name in LABELS if name in sweep.values]
        return cls(parameters.graph, values, parameters.origins, ", ".join(chosen) or sweep.solver.title)

    def table(self) -> Sheet:
        """Inputs, then each step; outputs stand out."""
        names = [name for name in (*self.graph.inputs, *self.graph.nodes) if name in self.values]
        columns = ["quantity", "value", "meaning", "equation, or where the value is from"]
        bold = [index for index, name in enumerate(names) if name in self.graph.outputs]
        return Sheet(self.title, columns, [self._row(name) for name in names], right=["value"], folds=True, bold=bold)

    def _row(self, name: str) -> list[str]:
        quantity, value = self.graph.quantity(name), self.values[name]
        shown = _shown(value, quantity)
        origin = f"= {self.graph.nodes[name].written}" if name in self.graph.nodes else self.origins[name]
        return [name, shown, quantity.long_name, origin]

    def __rich__(self) -> Sheet:
        return self.table()

    def __str__(self) -> str:
        return "\n".join([self.title, *self.table().lines()])


def _shown(value: float, quantity: Quantity) -> str:
    if quantity.kind == "label":
        return quantity.label(value)
    return show.number(bool(value) if quantity.kind == "bool" else value, quantity.unit)
