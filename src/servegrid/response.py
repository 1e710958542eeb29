"""What hand-written code asks of the equations, again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

PHYSICS = "physics"  # the argument that holds whatever responses take from outside


@dataclass(frozen=True)
class Response:
    """A quantity as a function of a few others: the time of a step, for the batch at hand.

    Code that is compiled with the equations (see `Procedure`) calls it as `name(*of, physics)`. Equations that depend
    on `of`, or on what is `fixed` to a number here, are computed at every call; all others once, and are in `physics`.
    """

    name: str
    gives: str
    of: tuple[str, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, *arguments: float | np.ndarray) -> float:
        """Stand for the function that a graph makes of it; TypeError, as there is none without a graph."""
        raise TypeError(
            f"{self.name} is an equation of a graph: it can only be called by code that is compiled with it"
        )

    def __hash__(self) -> int:
        return hash(self.name)
