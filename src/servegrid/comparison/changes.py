"""The records of a comparison: what changed about axes, quantities and equations. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal


@dataclass(frozen=True)
class AxisChange:
    """An axis: how many labels both have, and which only one of them has.

    `fixed`: the one value of it in the dataset of which it is no axis, if there is one. Where it is one of the labels,
    the two are compared there.
    """

    name: str
    shared: int
    only_one: tuple[Any, ...] = ()
    only_other: tuple[Any, ...] = ()
    axis_of: Literal["both", "one", "other"] = "both"
    fixed: Any = None

    @property
    def is_changed(self) -> bool:
        """Whether the two do not have the same axis with the same labels."""
        return self.axis_of != "both" or bool(self.only_one or self.only_other)


@dataclass(frozen=True)
class Change:
    """A quantity on the labels that both have.

    `appeared`: points that were NaN, 0 or false and are a number or true; `vanished`: the other way round. `higher`,
    `lower`: points that were and are numbers. `median`, `largest`: relative changes of those, with their sign;
    `before`, `after`, `where`: the values and labels of the largest, or of the first where there is no relative change.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"] | None
    axes: tuple[str, ...]
    points: int
    changed: int
    appeared: int
    vanished: int
    higher: int
    lower: int
    median: float
    largest: float
    before: Any
    after: Any
    where: Mapping[str, Any]

    @property
    def is_changed(self) -> bool:
        """Whether any point is not what it was."""
        return self.changed > 0


@dataclass(frozen=True)
class EquationChange:
    """An equation that differs; None where its text is not known any more."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Comparison:
    """What changed from `one` to `other`.

    `inputs`: those that differ. `differing`: what else differs, in words. `versions`: solver and versions, of both,
    where they differ; those alone are no change.
    """

    one: str
    other: str
    tolerance: float
    axes: tuple[AxisChange, ...]
    inputs: tuple[Change, ...]
    equations: tuple[EquationChange, ...]
    variables: tuple[Change, ...]
    only_one: tuple[str, ...]
    only_other: tuple[str, ...]
    differing: tuple[str, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, tuple[str, str]]

    @property
    def changed(self) -> bool:
        """Whether the two are not the same: labels, inputs, equations, variables, or any point of them."""
        others = (self.inputs, self.equations, self.only_one, self.only_other, self.differing)
        return any(
            (*(axis.is_changed for axis in self.axes), *(change.is_changed for change in self.variables), *others)
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries, lists and numbers; None in place of NaN."""
        return {"changed": self.changed, **_plain(asdict(self))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
