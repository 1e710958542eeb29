"""One configuration, and what one output becomes as inputs take other values: a single loop over samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from servegrid.api import SweepLike, load
from servegrid.evaluate import Evaluator
from servegrid.influence.places import narrowed, place_of, refuse_axes, with_outputs
from servegrid.parameters import Parameters, describe
from servegrid.program import Program
from servegrid.quantity import SERIES, Quantity

SAMPLE = "sample"


@dataclass(frozen=True)
class Point:
    """A sweep at one point, and the output that is looked at."""

    parameters: Parameters
    output: str

    @classmethod
    def of(cls, file: SweepLike, output: str, at: Mapping[str, Any] | None, words: Mapping[str, Any]) -> Point:
        """The point of a sweep without axes, or of one at one label of each axis; InputError for any other."""
        parameters = narrowed(with_outputs(load(file, **words), [output], "output"), at)
        refuse_axes(parameters)
        return cls(parameters, output)

    @cached_property
    def values(self) -> dict[str, float]:
        """Input -> its value, in its unit."""
        return {name: float(values.item()) for name, values in self.parameters.inputs.items() if not self._series(name)}

    def _series(self, name: str) -> bool:
        return self.quantity(name).kind == SERIES

    def quantity(self, name: str) -> Quantity:
        """What is declared about an input or the output."""
        return self.parameters.graph.quantity(name)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of a result: the sweep, the output."""
        sweep = self.parameters.sweep
        described = {"title": sweep.name, "question": sweep.question, "solver": sweep.solver.name, "sweep": sweep.text}
        told = {**described, **place_of(self.parameters, sweep.axes), "output": self.output}
        return {key: value for key, value in told.items() if value}

    def described(self) -> dict[str, Any]:
        """The attributes of the output itself: units, long name, source."""
        return describe(self.quantity(self.output))

    def outputs(self, samples: Mapping[str, np.ndarray], threads: int | None = None) -> np.ndarray:
        """The output [its unit] where inputs take these values (input -> an array of one length for all)."""
        graph = self.parameters.graph
        size = len(next(iter(samples.values())))
        axes = graph.axes({name: (SAMPLE,) if name in samples else () for name in graph.inputs}, (SAMPLE,))
        inputs = {name: np.ascontiguousarray(samples.get(name, value), float) for name, value in self.values.items()}
        inputs = {name: values if axes[name] else values.reshape(()) for name, values in inputs.items()}
        inputs |= {name: values.reshape(-1) for name, values in self.parameters.inputs.items() if self._series(name)}
        evaluator = Evaluator(Program(graph, axes, (SAMPLE,)), {SAMPLE: size}, inputs)
        arrays = evaluator.allocate(evaluator.whole, outputs=(self.output,))
        found = evaluator.grid(threads, arrays)[self.output]
        return np.array(np.broadcast_to(found, (size,)), np.float64)
