"""Quantities: named numbers with a unit, and the decorator that declares the one an equation gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal, TypeVar

Kind = Literal["float", "int", "bool", "label", "series"]
COMPUTED = ("bool", "label")  # kinds that only equations give
SERIES: Literal["series"] = (
    "series"  # the kind of many numbers at each point, one for each request, which only procedures take
)
USER = "user"  # the source of a number of the user's own, which only expressions use
Function = TypeVar("Function", bound=Callable[..., object])

# Numbers are double precision inside; above this, whole numbers would lose their last digit.
LARGEST_INTEGER = 2.0**53


@dataclass(frozen=True)
class Bounds:
    """The interval in which a quantity makes sense."""

    above: float = -inf
    at_least: float = -inf
    at_most: float = inf
    below: float = inf

    def __contains__(self, value: float) -> bool:
        return isfinite(value) and self.above < value < self.below and self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        limits = {
            "above": self.above,
            "at least": self.at_least,
            "at most": self.at_most,
            "below": self.below,
        }
        return " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if isfinite(limit))


ANY = Bounds()
POSITIVE = Bounds(above=0)
NOT_NEGATIVE = Bounds(at_least=0)
COUNT = Bounds(at_least=1)
SHARE = Bounds(above=0, at_most=1)


@dataclass(frozen=True)
class Quantity:
    """A named number: everything that documentation, messages and datasets say about it comes from here."""

    name: str
    unit: str
    long_name: str
    kind: Kind = "float"
    bounds: Bounds = ANY
    source: str = "definition"
    better: Literal["higher", "lower"] | None = None
    labels: tuple[str, ...] = ()
    """Of a label: its texts; values are their places among these, from 0."""

    def __post_init__(self) -> None:
        if (self.kind == "label") != bool(self.labels):
            raise TypeError(f"{self.name}: got kind {self.kind!r} and labels {self.labels}, expected both or neither")

    def label(self, code: float) -> str:
        """The text that a code stands for."""
        return self.labels[int(code)]

    @property
    def expected(self) -> str:
        """What a value of this quantity must be, for messages: "a whole number in token, at least 1"."""
        nouns = {"float": "a number", "int": "a whole number", "bool": "true or false", SERIES: "a series of numbers"}
        noun = nouns.get(self.kind) or f"one of {', '.join(self.labels)}"
        unit = f" in {self.unit}" if self.unit not in ("", "1") else ""
        bounds = f", {self.bounds}" if str(self.bounds) else ""
        return f"{noun}{unit}{bounds}"

    def accepts(self, value: float) -> bool:
        """Whether `value` is finite, within bounds and, for a count, whole."""
        whole = self.kind == "float" or (float(value).is_integer() and abs(value) <= LARGEST_INTEGER)
        return value in self.bounds and whole


def quantity(
    *,
    unit: str,
    long_name: str,
    kind: Kind = "float",
    bounds: Bounds = ANY,
    source: str = "definition",
    better: Literal["higher", "lower"] | None = None,
    labels: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Declare the quantity that the decorated equation gives; the function itself is left as it is.

    The function's name is the quantity's name, its argument names are the quantities that it needs.
    `unit` is SI where people do not write otherwise (s, byte, FLOP/s, token/s, USD/h); `bounds` is the
    interval of values that make sense; `better` says which way an optimum lies. An equation of
    kind "label" gives the place of a text among `labels`.
    """

    def declare(function: Function) -> Function:
        declared = Quantity(function.__name__, unit, long_name, kind, bounds, source, better, labels)
        setattr(function, "__quantity__", declared)  # noqa: B010 - plain attribute access would not type-check
        return function

    return declare


def quantity_of(function: Callable[..., object]) -> Quantity:
    """The quantity that an equation declares; TypeError for a function that declares none."""
    declared = getattr(function, "__quantity__", None)
    if not isinstance(declared, Quantity):
        raise TypeError(f"{function!r} declares no quantity: decorate it with @quantity(unit=..., long_name=...)")
    return declared
