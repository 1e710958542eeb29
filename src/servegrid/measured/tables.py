"""Error tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan, log
from typing import Any

from servegrid import show
from servegrid.measured.calibrated import Constant
from servegrid.sheet import Sheet

PERCENTS = ("median", "mean", "p90")
COUNTS = ("rows", "unanswered")


def error_sheet(rows: Sequence[dict[str, Any]], title: str = "") -> Sheet:
    """Errors in percent; the column of unanswered rows only where there are some."""
    names = [name for name in rows[0] if name != "unanswered" or any(row[name] for row in rows)]
    heads = [f"{name} error" if name in PERCENTS else name for name in names]
    numeric = [head for head, name in zip(heads, names, strict=True) if name in (*PERCENTS, *COUNTS, "rank")]
    return Sheet(title, heads, [[cell(name, row[name]) for name in names] for row in rows], right=numeric)


def cell(name: str, value: Any) -> str:
    """A value of an error table, as people read it."""
    if isinstance(value, float) and isnan(value):
        return "-"
    if name in PERCENTS:
        return percent(value)
    if name == "rank":
        return f"{value:.3f}"
    return show.plain(value) if isinstance(value, int | float) else str(value)


def percent(value: float) -> str:
    """An error such as 0.123 as "12.3 %"."""
    return "-" if isnan(value) else f"{100 * value:.1f} %"


def constant_sheet(constants: Iterable[Constant]) -> Sheet:
    """Constants before and after a fit, those first that changed most; those that stayed are left out."""
    changed = sorted(
        (constant for constant in constants if constant.changed), key=lambda constant: -abs(log(constant.factor))
    )
    rows = [
        [
            constant.name,
            show.number(constant.before, constant.unit),
            show.number(constant.after, constant.unit),
            f"{constant.factor:.2f}",
        ]
        for constant in changed
    ]
    return Sheet("", ["constant", "catalogue", "fitted", "factor"], rows, right=["catalogue", "fitted", "factor"])
