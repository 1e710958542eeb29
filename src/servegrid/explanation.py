"""How a sweep is computed: every quantity with its equation, axes, shape and bytes; the generated kernel."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from servegrid import show
from servegrid.blocks import Variable
from servegrid.evaluate import Evaluator
from servegrid.parameters import Parameters
from servegrid.sheet import Sheet


@dataclass(frozen=True, repr=False)
class Explanation:
    """The graph of a sweep, for people; `print` it, or show it in a notebook."""

    parameters: Parameters
    evaluator: Evaluator

    @property
    def kernel(self) -> str:
        """The generated source of the loop nests."""
        return self.evaluator.program.source

    def table(self) -> Sheet:
        """Inputs, then nest by nest what is computed; outputs stand out."""
        program = self.evaluator.program
        computed = [name for nest in program.nests for name in nest.quantities]
        names = [*program.graph.inputs, *computed]
        columns = ["quantity", "unit", "axes", "values", "bytes", "equation, or where the value is from"]
        bold = [index for index, name in enumerate(names) if name in program.graph.outputs]
        return Sheet("", columns, [self._row(name) for name in names], right=["values", "bytes"], folds=True, bold=bold)

    def _row(self, name: str) -> list[str]:
        program = self.evaluator.program
        quantity, axes = program.graph.quantity(name), program.axes[name]
        variable = Variable(axes, program.dtype(name).itemsize)
        held = name in program.stored or name in program.graph.inputs
        given = self.evaluator.inputs.get(name)  # a series has many numbers at each point
        size = variable.nbytes(self.evaluator.sizes) if given is None else given.size * variable.itemsize
        return [
            name,
            quantity.unit,
            " x ".join(axes) or "-",
            f"{size // variable.itemsize:,}",
            show.number(size, "byte") if held else "-",
            program.graph.nodes[name].written if name in program.graph.nodes else self.parameters.origins[name],
        ]

    def __rich__(self) -> Sheet:
        return self.table()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __repr__(self) -> str:
        return "\n".join(self.table().lines())
