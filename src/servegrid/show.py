"""Numbers as people read them: 12.3 ms, 80.0 GiB, 1,234 token/s."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BINARY = (*((2.0 ** (10 * power), f"{'KMGTPE'[power - 1]}iB") for power in range(6, 0, -1)), (1.0, "byte"))
_DECIMAL = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_COUNTS = ("1", "token", "request", "page")  # the name of the quantity says what is counted
_PREFIXED = {"byte/s": "B/s", "FLOP/s": "FLOP/s", "FLOP": "FLOP", "parameter": ""}


def number(value: float, unit: str = "1") -> str:
    """`value` (in `unit`) in three or four digits, with the unit in the size that people use."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isnan(value):
        return "-"
    if sizes := _sizes(unit):
        return _scaled(value, sizes)
    return plain(value) if unit in _COUNTS else f"{plain(value)} {unit}"


def exact(value: float, unit: str = "1") -> str:
    """`value` with all of its digits, in `unit`: what tells it from its neighbours."""
    digits = f"{value:.0f}" if float(value).is_integer() else repr(float(value))
    return digits if unit in ("", "1") else f"{digits} {unit}"


def size(value: float, unit: str) -> tuple[float, str]:
    """The size of `unit` that suits `value`, and its name: (1e-3, "ms") for 0.02 s; a unit without sizes as it is."""
    return _fitting(value, _sizes(unit) or ((1.0, unit),))


def _sizes(unit: str) -> tuple[tuple[float, str], ...]:
    """The sizes in which people use a unit, the largest first; none for a unit that they use as it is."""
    if unit == "s":
        return _SECONDS
    if unit == "byte":
        return _BINARY
    if unit in _PREFIXED:
        return (*((step, f"{prefix}{_PREFIXED[unit]}") for step, prefix in _DECIMAL), (1.0, _PREFIXED[unit]))
    return ()


def plain(value: float) -> str:
    """A number without unit: whole numbers whole, others in four digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"


def count(value: float) -> str:
    """A large count in words' length: 67.1 M, 1.2 G, 3e+15."""
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    return _scaled(value, (*_DECIMAL, (1.0, "")))


def counted(number: int, noun: str) -> str:
    """So many of something: "1 region", "32 regions", "2 processes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def _fitting(value: float, steps: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next((pair for pair in steps if abs(value) >= pair[0]), steps[-1])


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    step, name = _fitting(value, steps)
    scaled = value / step
    digits = f"{scaled:.0f}" if scaled == round(scaled) else f"{scaled:.4g}"
    return f"{digits} {name}".strip()


def region_text(region: Mapping[str, slice], axes: Mapping[str, Any]) -> str:
    """A part of a grid by its labels: "model llama-3.1-8b, seq_len 1024 to 8192"; axes that are whole are left out."""
    parts = []
    for axis, part in region.items():
        labels = axes[axis][part]
        if len(labels) < len(axes[axis]):
            last = f" to {labels[-1]}" if len(labels) > 1 else ""
            parts.append(f"{axis} {labels[0]}{last}")
    return ", ".join(parts) or "all"
