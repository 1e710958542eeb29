"""Quantities: bounds, what counts as a value, and the decorator."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servegrid import CONTINUOUS_BATCHING, Bounds, Quantity
from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, quantity, quantity_of
from servegrid.units import parse_unit


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(), (-1e308, 0, 1e308), (nan, inf, -inf)),
        (POSITIVE, (5e-324, 1, 1e308), (0, -0.0, -1, nan, inf)),
        (NOT_NEGATIVE, (0, -0.0, 1), (-5e-324, nan, inf)),
        (COUNT, (1, 2), (0, 0.999, -1)),
        (SHARE, (1e-9, 0.5, 1), (0, 1.0000001, -1)),
        (Bounds(at_least=0, below=1), (0, 0.999), (1, -1e-9)),
        (Bounds(above=2, at_most=2), (), (1, 2, 3)),
    ],
)
def test_bounds_hold_what_lies_between(bounds: Bounds, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert [value for value in inside if value not in bounds] == []
    assert [value for value in outside if value in bounds] == []


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        (Bounds(), ""),
        (POSITIVE, "above 0"),
        (COUNT, "at least 1"),
        (SHARE, "above 0 and at most 1"),
        (Bounds(at_least=0, below=1), "at least 0 and below 1"),
        (Bounds(at_most=1e9), "at most 1e+09"),
    ],
)
def test_bounds_say_what_they_expect(bounds: Bounds, text: str) -> None:
    assert str(bounds) == text


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (Quantity("page_size", "token", "", "int", COUNT), "a whole number in token, at least 1"),
        (Quantity("efficiency", "1", "", "float", SHARE), "a number, above 0 and at most 1"),
        (Quantity("kv_budget", "byte", ""), "a number in byte"),
        (Quantity("feasible", "1", "", "bool"), "true or false"),
    ],
)
def test_a_quantity_says_what_it_expects(declared: Quantity, text: str) -> None:
    assert declared.expected == text


@given(st.integers(1, 2**53), st.floats(0.001, 0.999))
def test_a_count_takes_whole_numbers_only(number: int, part: float) -> None:
    count = Quantity("n", "1", "", "int", COUNT)
    assert count.accepts(number)
    assert count.accepts(float(number))
    assert not count.accepts(min(number, 2**40) + part)


def test_a_count_that_a_float_cannot_hold_is_refused() -> None:
    count = Quantity("n", "1", "", "int")
    assert count.accepts(2**53)
    assert not count.accepts(2**53 + 2)
    assert Quantity("x", "1", "").accepts(2**53 + 2)


def test_declaring_leaves_the_function_alone() -> None:
    def twice(page_size: float) -> float:
        return 2 * page_size

    declared = quantity(unit="token", long_name="two pages", better="lower", source="a test")(twice)
    assert declared is twice
    assert twice(3) == 6
    assert quantity_of(twice) == Quantity("twice", "token", "two pages", "float", Bounds(), "a test", better="lower")


def test_a_function_without_a_declaration_is_refused() -> None:
    with pytest.raises(TypeError) as refusal:
        quantity_of(len)
    assert str(refusal.value) == (
        "<built-in function len> declares no quantity: decorate it with @quantity(unit=..., long_name=...)"
    )


def test_quantities_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Quantity("x", "1", "").unit = "s"  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("name", sorted(CONTINUOUS_BATCHING.names))
def test_every_quantity_of_the_solver_is_declared_whole(name: str) -> None:
    declared = CONTINUOUS_BATCHING.quantity(name)
    assert declared.name == name
    assert declared.long_name == declared.long_name.strip() != ""
    assert parse_unit(declared.unit) is not None
    if name in CONTINUOUS_BATCHING.defaults:
        assert declared.accepts(CONTINUOUS_BATCHING.defaults[name])


@pytest.mark.parametrize("name", sorted(CONTINUOUS_BATCHING.equations))
def test_every_equation_names_its_source(name: str) -> None:
    assert CONTINUOUS_BATCHING.quantity(name).source != ""
