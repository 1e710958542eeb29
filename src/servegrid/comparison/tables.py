"""A comparison for the terminal: what differs in labels, inputs and equations, then what changed, and where most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from rich.console import Console
from rich.text import Text

from servegrid import show
from servegrid.comparison.changes import AxisChange, Change, Comparison
from servegrid.sheet import Sheet

MOST_LABELS = 6  # of an axis that are named
_VARIABLE = ["variable", "changed", "appeared", "vanished", "direction", "median", "largest", "from", "to", "where"]
_INPUT = ["input", "changed", "from", "to", "change", "where"]
_WORDS = {"higher": ("better", "worse"), "lower": ("worse", "better"), None: ("higher", "lower")}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """All that differs; a line for what is the same."""
    one, other = comparison.one, comparison.other
    _line(console, f"{one} -> {other}", "")
    for key, versions in comparison.versions.items():
        _line(console, "", f"{key} {versions[0]} -> {versions[1]}")
    for axis in comparison.axes:
        if axis.is_changed:
            _line(console, axis.name, f"  {_axis(axis, one, other)}")
    for owner, names in ((one, comparison.only_one), (other, comparison.only_other)):
        if names:
            _line(console, f"only in {owner}", f"  {', '.join(names)}")
    for sheet in _sheets(comparison):
        console.print()
        console.print(sheet)
    if comparison.changed:
        console.print()
    for style, lead, sentences in (("red", "differs:", comparison.differing), ("yellow", "note:", comparison.notes)):
        for sentence in sentences:
            _line(console, lead, f" {sentence}", style)
    _line(console, "", _verdict(comparison))


def _line(console: Console, lead: str, rest: str, style: str = "bold") -> None:
    """A line as it is: names are no markup."""
    console.print(Text.assemble((lead, style), rest))


def _axis(axis: AxisChange, one: str, other: str) -> str:
    if axis.axis_of != "both":
        owner, lacking = (one, other) if axis.axis_of == "one" else (other, one)
        if axis.fixed is None:
            return f"an axis of {owner} only"
        if not axis.shared:
            return f"an axis of {owner} only, without the label {_label(axis.fixed)}, the value in {lacking}"
        return f"an axis of {owner} only, compared at {_label(axis.fixed)}, the value in {lacking}"
    parts = [f"{show.counted(axis.shared, 'label')} in both"]
    for owner, labels in ((one, axis.only_one), (other, axis.only_other)):
        if labels:
            more = f" and {len(labels) - MOST_LABELS:,} more" if len(labels) > MOST_LABELS else ""
            parts.append(f"only in {owner}: {', '.join(map(_label, labels[:MOST_LABELS]))}{more}")
    return "; ".join(parts)


def _label(label: Any) -> str:
    return label if isinstance(label, str) else show.exact(label)


def _sheets(comparison: Comparison) -> Iterator[Sheet]:
    if comparison.inputs:
        rows = [_input(change) for change in comparison.inputs]
        yield Sheet("Inputs that differ", _INPUT, rows, right=["changed", "from", "to", "change"])
    if comparison.equations:
        unknown = "(its text is not known)"
        rows = [[change.name, change.before or unknown, change.after or unknown] for change in comparison.equations]
        yield Sheet("Equations that differ", ["equation", "from", "to"], rows, folds=True)
    changed = [change for change in comparison.variables if change.is_changed]
    if changed:
        rows = [_variable(change) for change in changed]
        kept, columns = _without_empty(rows)
        numbers = [column for column in columns if column not in ("variable", "direction", "where")]
        yield Sheet("Variables that differ, where both have labels", columns, kept, right=numbers)


def _without_empty(rows: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[str]]:
    """Columns in which some row says something."""
    places = [place for place in range(len(_VARIABLE)) if any(row[place] != "-" for row in rows)]
    return [[row[place] for place in places] for row in rows], [_VARIABLE[place] for place in places]


def _input(change: Change) -> list[str]:
    before, after = _values(change)
    return [change.name, _share(change), before, after, _percent(change.largest), _where(change.where)]


def _variable(change: Change) -> list[str]:
    counts = [f"{count:,}" if count else "-" for count in (change.appeared, change.vanished)]
    relative = [_percent(change.median), _percent(change.largest)]
    return [change.name, _share(change), *counts, _direction(change), *relative, *_values(change), _where(change.where)]


def _share(change: Change) -> str:
    return f"{change.changed:,} of {change.points:,}"


def _direction(change: Change) -> str:
    """Which way numbers went, in words of what is better where that is known."""
    counts = dict(zip(_WORDS[change.better], (change.higher, change.lower), strict=True))
    there = {word: count for word, count in sorted(counts.items()) if count}
    if len(there) == 1:
        return f"all {next(iter(there))}"
    return ", ".join(f"{count:,} {word}" for word, count in there.items()) or "-"


def _percent(change: float) -> str:
    if isnan(change):
        return "-"
    percent = 100 * change
    return f"{percent:+,.0f}%" if abs(percent) >= 1000 else f"{percent:+.3g}%"


def _values(change: Change) -> tuple[str, str]:
    """Before and after, in so many digits that they can be told apart."""
    before, after = (_value(value, change.unit) for value in (change.before, change.after))
    if before == after and isinstance(change.before, float):
        return show.exact(change.before, change.unit), show.exact(change.after, change.unit)
    return before, after


def _value(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else show.number(value, unit or "1")


def _where(where: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis} {_label(label)}" for axis, label in where.items()) or "-"


def _verdict(comparison: Comparison) -> str:
    variables = comparison.variables
    points, changed = (sum(getattr(change, key) for change in variables) for key in ("points", "changed"))
    same = [change.name for change in variables if not change.is_changed]
    within = f" within {comparison.tolerance:g}" if comparison.tolerance else ""
    if changed:
        unchanged = f"; the same{within}: {', '.join(same)}" if same else ""
        return f"{changed:,} of {show.counted(points, 'value')} changed{unchanged}"
    return f"all {show.counted(points, 'value')} that both have are the same{within}"
