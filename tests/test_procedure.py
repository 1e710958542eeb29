"""A user's own procedure: a function that asks the equations as it goes, in a sweep like any quantity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from uncompiled import nothing_compiled

import servegrid as sg
from servegrid.procedure import Procedure
from servegrid.quantity import COUNT, Quantity, quantity
from servegrid.response import Response
from servegrid.solvers import Solver

STEPS = 3


class Walk(NamedTuple):
    """What the walk needs."""

    start: float
    stride: float


height = Response("height", "hill", ("place",), {"offset": 0.5})


@quantity(unit="1", long_name="height of the hill")
def hill(slope: float, place: float, offset: float) -> float:
    """Return the slope times the place, and the offset."""
    return slope * place + offset


@quantity(unit="1", long_name="slope")
def slope(steepness: float) -> float:
    """Return twice the steepness."""
    return 2 * steepness


@quantity(unit="1", long_name="twice the climb")
def double_climb(climb: float) -> float:
    """Return 2 c."""
    return 2 * climb


def place_after(walk: Walk, steps: int) -> float:
    """Return where the walk is."""
    return walk.start + steps * walk.stride


def climbed(walk: Walk, physics: np.ndarray) -> np.ndarray:
    """Return the sum of all heights, and the last one."""
    total, last = 0.0, 0.0
    for step in range(STEPS):
        last = height(place_after(walk, step), physics)
        total += last
    return np.array((total, last))


def _number(name: str) -> Quantity:
    return Quantity(name, "1", f"a number, {name}")


CLIMB = Procedure(climbed, results=(_number("climb"), _number("summit")))
SOLVER = Solver(
    name="walks",
    title="Walks over a hill",
    equations={"hill": hill, "slope": slope, "double_climb": double_climb},
    outputs=("climb", "summit", "double_climb"),
    inputs={name: _number(name) for name in ("start", "stride", "steepness", "place", "offset")},
    procedures={"climb": CLIMB, "summit": CLIMB},
)
AXES: dict[str, Any] = {"start": [0.0, 10.0], "steepness": [1.0, 3.0]}
START, STEEPNESS = np.meshgrid(*AXES.values(), indexing="ij")


def swept(**changed: Any) -> dict[str, np.ndarray]:
    found = sg.sweep(**{"solver": SOLVER, "axes": AXES, "values": {"stride": 2.0}, **changed})
    return {str(name): found[name].values for name in found.data_vars}


def by_hand(slopes: np.ndarray) -> dict[str, np.ndarray]:
    heights = [slopes * (START + 2 * step) + 0.5 for step in range(3)]
    return {"climb": sum(heights), "summit": heights[-1], "double_climb": 2 * sum(heights)}


def check(found: dict[str, np.ndarray], slopes: np.ndarray) -> None:
    for name, values in by_hand(slopes).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_what_it_needs_gives_and_asks() -> None:
    assert CLIMB.name == "climbed"
    assert CLIMB.needs == ("start", "stride")
    assert CLIMB.responses == (height,)
    with pytest.raises(TypeError, match="height is an equation of a graph: it can only be called by code"):
        height(1.0, np.empty(0))


def test_a_procedure_is_swept_compiled_and_plain() -> None:
    check(swept(), 2 * STEEPNESS)
    with nothing_compiled():
        check(swept(), 2 * STEEPNESS)


def test_axes_apart_from_it_do_not_run_it_again() -> None:
    with nothing_compiled():
        found = sg.sweep(solver=SOLVER, axes=AXES, values={"stride": 2.0, "slope": 1.0}, outputs=["climb", "slope"])
    assert found.climb.dims == ("start",)


def test_an_equation_that_is_given_is_used_within() -> None:
    with nothing_compiled():
        found = swept(axes={"start": AXES["start"]}, values={"stride": 2.0, "slope": 7.0})
    for name, values in by_hand(np.full_like(START, 7)).items():
        np.testing.assert_array_equal(found[name], values[:, 0])


def test_an_equation_that_is_derived_anew_is_used_within() -> None:
    with nothing_compiled():
        check(swept(derive={"slope": "steepness ** 2"}), STEEPNESS**2)


def test_an_equation_of_another_solver_is_used_within() -> None:
    @quantity(unit="1", long_name="slope")
    def slope(steepness: float, start: float) -> float:
        """Return the steepness and the start."""
        return steepness + start

    with nothing_compiled():
        check(swept(solver=SOLVER.extended(slope)), STEEPNESS + START)


def test_what_a_response_fixes_is_fixed_whatever_is_given() -> None:
    with nothing_compiled():
        check(swept(values={"stride": 2.0, "offset": 100.0}), 2 * STEEPNESS)


def test_a_result_that_an_equation_gives_is_no_result_of_the_procedure() -> None:
    @quantity(unit="1", long_name="climb")
    def climb(start: float) -> float:
        """Return it."""
        return start

    with nothing_compiled():
        found = swept(solver=SOLVER.extended(climb))
    np.testing.assert_array_equal(found["climb"], [0, 10])
    np.testing.assert_array_equal(found["summit"], by_hand(2 * STEEPNESS)["summit"])


def test_what_is_missing_is_said() -> None:
    with pytest.raises(sg.InputError, match="stride"):
        swept(values={})
    with pytest.raises(sg.InputError, match="steepness"):
        swept(axes={"start": [1.0]})


def test_a_bound_of_an_input_holds() -> None:
    strict = replace(SOLVER, inputs={**SOLVER.inputs, "stride": Quantity("stride", "1", "stride", "int", COUNT)})
    with pytest.raises(sg.InputError, match=r"values\.stride: got 0, expected a whole number, at least 1"):
        swept(solver=strict, values={"stride": 0})
