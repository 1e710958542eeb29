"""What a calibration found: constants before and after, and errors by runs that a fit has seen and has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from servegrid.measured.scores import Score

LEAST_CHANGE = 1e-3  # of a constant, relative: below, the runs say nothing of it

Row = dict[str, Any]


@dataclass(frozen=True)
class Constant:
    """A constant that was fitted: its number in the catalogue, and for this deployment."""

    name: str
    unit: str
    before: float
    after: float
    width: float
    """Of its prior: standard deviation of the natural logarithm."""

    @property
    def factor(self) -> float:
        """By how much it changed [1]."""
        return self.after / self.before

    @property
    def changed(self) -> bool:
        """Whether the runs moved it at all."""
        return abs(self.factor - 1) >= LEAST_CHANGE


@dataclass(frozen=True)
class Calibration:
    """What a fit found.

    `like`: the engine that it starts from; `before` and `after`: errors of each output with the constants of the
    catalogue, and by cross-validation, each run predicted by a fit that has not seen it.
    """

    like: str
    constants: tuple[Constant, ...]
    before: Mapping[str, Score]
    after: Mapping[str, Score]
    rows: int
    folds: int
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> list[Constant]:
        """The constants that the runs moved."""
        return [constant for constant in self.constants if constant.changed]

    def errors(self) -> list[Row]:
        """A row for each output before and after."""
        stages = {"catalogue": self.before, "calibrated": self.after}
        return [
            {"output": output, "constants": stage, **asdict(scores[output])}
            for output in self.before
            for stage, scores in stages.items()
        ]
