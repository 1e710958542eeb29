"""Units: what people write ("80 GiB", "3.35 TB/s") and what datasets carry (UDUNITS spelling)."""

from __future__ import annotations

import re
from functools import cache
from tokenize import TokenError
from typing import Any

import pint
from pint.facets.plain import PlainUnit

# A small registry of our own, for two reasons: it loads in 7 ms (pint's takes 200), and a byte must not be
# eight of something dimensionless, as it is in pint's, or "64 byte" would pass for a number of requests.
# Things that are counted (tokens, requests, FLOPs) have no dimension of their own: 2 P S multiplies
# parameters by tokens and gives FLOPs.
_DEFINITIONS = """
kilo- = 1e3 = k-
mega- = 1e6 = M-
giga- = 1e9 = G-
tera- = 1e12 = T-
peta- = 1e15 = P-
milli- = 1e-3 = m-
micro- = 1e-6 = u- = µ-
nano- = 1e-9 = n-
kibi- = 2**10 = Ki-
mebi- = 2**20 = Mi-
gibi- = 2**30 = Gi-
tebi- = 2**40 = Ti-
second = [time] = s
minute = 60 * second = min
hour = 3600 * second = h
day = 24 * hour
year = 365.25 * day
byte = [data] = _ = B
bit = byte / 8 = _ = b
watt = [power] = W
joule = watt * second = J
USD = [currency] = _ = dollar
count = []
percent = 0.01 * count = %
""".strip().splitlines()
COUNTED = ("token", "request", "FLOP", "OP", "parameter", "page", "step")


class UnitError(ValueError):
    """A text that is no quantity, or a unit of the wrong kind; the message says which."""


@cache
def registry() -> pint.UnitRegistry[Any]:
    """The registry of all units that servegrid knows."""
    units: pint.UnitRegistry[Any] = pint.UnitRegistry(None)
    for line in _DEFINITIONS:
        units.define(line)
    for name in COUNTED:
        units.define(f"{name} = count")
    return units


@cache
def parse_unit(text: str) -> PlainUnit:
    """The unit written as `text` ("byte/s"); UnitError where it is none."""
    try:
        return registry().parse_units(text)
    except (pint.errors.PintError, TokenError, ValueError, TypeError, AttributeError, AssertionError):
        raise UnitError(f"{text!r} is not a unit that servegrid knows") from None


_NUMBER_WITH_UNIT = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\W\d_][^,;]*|%)")


def to_number(text: str, unit: str) -> float:
    """The number that `text` ("80 GiB", "16 tokens", "0.5") stands for, in `unit`.

    A bare number is in `unit` already. UnitError where the text is no quantity or has another dimension.
    """
    try:
        return float(text)
    except ValueError:
        pass
    written = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    if written is None:
        raise UnitError(f"{text!r} is not a number")
    try:
        return float(registry().Quantity(float(written[1]), parse_unit(written[2])).m_as(parse_unit(unit)))
    except pint.DimensionalityError:
        raise UnitError(f"{text!r} has a unit that cannot be converted to {unit}") from None


def udunits(unit: str) -> str:
    """`unit` as UDUNITS (and pint's own registry) spell it: what is counted, money included, is a count."""
    words = {**dict.fromkeys(COUNTED, "count"), "USD": "count"}
    return "".join(words.get(word, word) for word in re.split(r"(\W)", unit))
