"""Procedures: what no equation can say, such as a simulation, as one function that gives several quantities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

import numpy as np

from servegrid.handwritten import responses_of
from servegrid.quantity import Quantity
from servegrid.response import PHYSICS, Response


@dataclass(frozen=True)
class Procedure:
    """A function, and the quantities that it returns as an array, in order.

    The function is plain Python on numbers and arrays, as numba compiles it. Its arguments are named tuples, whose
    fields are the quantities that it needs, by name. The last one is `physics`, which it hands to its responses.
    """

    function: Callable[..., np.ndarray]
    results: tuple[Quantity, ...]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @cached_property
    def groups(self) -> tuple[Any, ...]:
        """The named tuples that are its arguments, in order."""
        hints = get_type_hints(self.function)
        return tuple(hint for name, hint in hints.items() if name not in (PHYSICS, "return"))

    @property
    def needs(self) -> tuple[str, ...]:
        """The quantities that are the fields of its arguments."""
        return tuple(name for group in self.groups for name in group._fields)

    @property
    def responses(self) -> tuple[Response, ...]:
        """What it asks of the equations."""
        return responses_of(self.function)
