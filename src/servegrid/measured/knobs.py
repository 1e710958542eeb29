"""What a fit may turn: factors on constants, each with a prior around 1 and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np

from servegrid.errors import InputError, nearest
from servegrid.measured.predictions import Predictor
from servegrid.quantity import Bounds

ENGINE = "engine"
OTHER_WIDTH = 0.3  # of the prior of a constant of which the catalogue does not say how far it may be off
FARTHEST = 3.0  # widths from the default


@dataclass(frozen=True)
class Knob:
    """A factor on one input in some rows, turned by `q`: exp(q width); q = 0 is the default, and the most likely."""

    constant: str
    rows: np.ndarray
    """A flag for each run."""
    width: float
    lowest: float
    highest: float
    """Ends of q."""
    group: str = ""

    def factor(self, q: float) -> float:
        """The factor that stands at q."""
        return exp(q * self.width)


def turned(predictor: Predictor, knobs: Sequence[Knob], q: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of a predictor with the knobs at q."""
    changed: dict[str, np.ndarray] = {}
    for knob, turn in zip(knobs, q.tolist(), strict=True):
        values = changed.get(knob.constant, predictor.inputs[knob.constant])
        factor = knob.factor(turn)
        changed[knob.constant] = np.where(knob.rows, values * factor, values) if values.ndim else values * factor
    return changed


def knobs_of(predictor: Predictor, constants: Sequence[str], group: str = ENGINE) -> list[Knob]:
    """A knob for each constant in all rows; where a constant differs from group to group, one for each group.

    `group`: a label of the runs, such as engine.
    """
    knobs = []
    for name in constants:
        for label, rows in _groups(predictor, name, group).items():
            values = predictor.values_of(name)[rows]
            if values.max() > 0:
                width = _width(predictor, name, rows)
                lowest, highest = _ends(predictor.parameters.graph.quantity(name).bounds, values, width)
                knobs.append(Knob(name, rows, width, lowest, highest, label))
    return knobs


def _groups(predictor: Predictor, name: str, group: str) -> dict[str, np.ndarray]:
    if np.ptp(predictor.values_of(name)) == 0:
        return {"": np.ones(len(predictor), bool)}
    labels = predictor.labels(group)
    return {label: labels == label for label in dict.fromkeys(labels.tolist())}


def spreads(predictor: Predictor, engine: str) -> dict[str, float]:
    """How far each constant of an engine may be off: standard deviations of the natural logarithm."""
    if not engine:
        return {}
    constants = predictor.parameters.sweep.catalog.constants(engine)
    return {name: constant.spread for name, constant in constants.items() if constant.spread}


def _width(predictor: Predictor, name: str, rows: np.ndarray) -> float:
    engine = predictor.labels(ENGINE)[rows][0]
    return spreads(predictor, engine).get(name, OTHER_WIDTH)


def _ends(bounds: Bounds, values: np.ndarray, width: float) -> tuple[float, float]:
    """How far a factor may go: three widths, and no value beyond the bounds of its quantity."""
    top, bottom = min(bounds.at_most, bounds.below), max(bounds.at_least, bounds.above)
    highest = inf if top == inf else log(top / values.max()) / width
    lowest = -inf if bottom <= 0 else log(bottom / values.min()) / width
    return max(lowest, -FARTHEST), min(highest, FARTHEST)


def default_constants(predictor: Predictor) -> list[str]:
    """The constants that a fit may turn: those that the catalogue's engines give and that may be off."""
    given = {*predictor.parameters.sweep.columns, *predictor.parameters.sweep.values}
    engines = dict.fromkeys(predictor.labels(ENGINE).tolist())
    unsure = dict.fromkeys(name for engine in engines for name in spreads(predictor, engine))
    return [name for name in unsure if name in predictor.inputs and name not in given]


def check_constants(predictor: Predictor, constants: Sequence[str]) -> list[str]:
    """The constants that somebody named; InputError for those that no factor can be fitted to."""
    known = default_constants(predictor) or list(predictor.inputs)
    for name in constants:
        if name not in predictor.inputs:
            raise InputError(
                f"constants: {name!r} is no input of what was measured{nearest(name, predictor.inputs)}, expected some "
                f"of {', '.join(known)}"
            )
        values = predictor.values_of(name)
        if np.ptp(values) > 0:
            raise InputError(
                f"constants: {name} goes from {values.min():g} to {values.max():g} in these rows, expected one number "
                "in all of them"
            )
        if not values[0] > 0:
            raise InputError(f"constants: {name} is {values[0]:g}, expected a number above 0, which a factor changes")
    if len(set(constants)) < len(constants):
        raise InputError("constants: a name stands twice, expected each once")
    return list(constants)
