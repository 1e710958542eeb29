"""Units: what people write, and what datasets carry."""

from __future__ import annotations

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servegrid.units import UnitError, parse_unit, to_number, udunits


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("80 GiB", "byte", 80 * 2**30),
        ("80GB", "byte", 80e9),
        ("3.35 TB/s", "byte/s", 3.35e12),
        ("3350 GB/s", "byte/s", 3.35e12),
        ("989.4 TFLOP/s", "FLOP/s", 989.4e12),
        ("1.979 PFLOP/s", "FLOP/s", 1.979e15),
        ("1 POP/s", "FLOP/s", 1e15),
        ("8 b", "byte", 1),
        ("16 bit", "byte", 2),
        ("4 kiB", "byte", None),
        ("4 KiB", "byte", 4096),
        ("10 us", "s", 1e-5),
        ("10 µs", "s", 1e-5),
        ("2 ms", "s", 2e-3),
        ("1.5 h", "s", 5400),
        ("2 min", "s", 120),
        ("2.99 USD/h", "USD/h", 2.99),
        ("2.99 dollar/hour", "USD/h", 2.99),
        ("52.34 USD/day", "USD/h", 52.34 / 24),
        ("700 W", "W", 700),
        ("0.7 kW", "W", 700),
        ("50 %", "1", 0.5),
        ("16 token", "token", 16),
        ("16 tokens", "token", 16),
        ("8 requests", "token", 8),  # what is counted is a number
        ("16", "token", 16),
        (" 0.5 ", "1", 0.5),
        ("1e-3", "s", 1e-3),
        ("+.5e1 s", "s", 5),
        ("-2 s", "s", -2),
    ],
)
def test_text_is_read_as_a_number_in_the_unit_asked_for(text: str, unit: str, number: float | None) -> None:
    if number is None:
        with pytest.raises(UnitError, match="is not a unit"):
            to_number(text, unit)
    else:
        assert to_number(text, unit) == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("80 parrots", "byte", "'parrots' is not a unit that servegrid knows"),
        ("eighty", "byte", "'eighty' is not a number"),
        ("", "byte", "'' is not a number"),
        ("GiB", "byte", "'GiB' is not a number"),
        ("1 2 s", "s", "'1 2 s' is not a number"),
        ("80 GB/s", "byte", "'80 GB/s' has a unit that cannot be converted to byte"),
        ("64 byte", "request", "'64 byte' has a unit that cannot be converted to request"),
        ("3 s", "byte/s", "'3 s' has a unit that cannot be converted to byte/s"),
        ("3 USD", "USD/h", "'3 USD' has a unit that cannot be converted to USD/h"),
        ("3 s*", "s", "'s*' is not a unit that servegrid knows"),
        ("2 TB/{", "byte", "'TB/{' is not a unit that servegrid knows"),
        ("3 __import__('os')", "s", "\"3 __import__('os')\" is not a number"),
    ],
)
def test_text_that_is_no_such_quantity_is_refused(text: str, unit: str, message: str) -> None:
    with pytest.raises(UnitError) as refusal:
        to_number(text, unit)
    assert str(refusal.value) == message


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_bare_number_is_in_the_unit_already(number: float) -> None:
    assert to_number(repr(number), "byte/s") == number


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_prefixes_differ_by_their_powers(number: float) -> None:
    assert to_number(f"{number!r} GiB", "byte") == number * 2**30
    assert to_number(f"{number!r} TB/s", "GB/s") == pytest.approx(number * 1000, rel=1e-14)


@pytest.mark.parametrize(
    ("unit", "spelt"),
    [
        ("byte", "byte"),
        ("byte/s", "byte/s"),
        ("FLOP/s", "count/s"),
        ("token/s", "count/s"),
        ("USD/h", "count/h"),
        ("request", "count"),
        ("parameter", "count"),
        ("1", "1"),
        ("W", "W"),
    ],
)
def test_datasets_carry_units_that_pints_own_registry_reads(unit: str, spelt: str) -> None:
    assert udunits(unit) == spelt
    assert str(pint.UnitRegistry().parse_units(spelt)) != ""


def test_a_byte_has_a_dimension_and_a_count_has_none() -> None:
    assert parse_unit("byte").dimensionality == {"[data]": 1}
    assert parse_unit("token*FLOP/request").dimensionless
