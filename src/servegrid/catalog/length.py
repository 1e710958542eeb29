"""The catalogue entry of a distribution of lengths."""

from __future__ import annotations

from typing import Literal

from servegrid.catalog.entry import Entry
from servegrid.simulation.workload import SHAPES

Shape = Literal["fixed", "uniform", "lognormal", "exponential"]


class Length(Entry):
    """A shape that lengths of prompts and outputs have; means and variations are inputs."""

    shape: Shape


def shape_code(shape: Shape) -> int:
    """The number that stands for a shape."""
    return SHAPES.index(shape)
