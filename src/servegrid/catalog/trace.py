"""The catalogue entry of a trace: how long requests are and when they came, as numbers or from a file of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from math import isfinite, nan, sqrt
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from servegrid.catalog.entry import Count, Entry, in_unit
from servegrid.catalog.length import Shape
from servegrid.csvfile import Table, read_csv, read_table
from servegrid.errors import InputError, shown

Tokens = Annotated[float, Field(ge=1, allow_inf_nan=False), in_unit("token")]
Variation = Annotated[float, Field(ge=0, allow_inf_nan=False)]
COLUMNS = (("input_len", "output_len"), ("ContextTokens", "GeneratedTokens"))  # the latter are of Azure's traces
TIMES = ("arrival_time", "TIMESTAMP")  # seconds, and a date with a time, as Azure has it
LONGEST = 10**9  # tokens: more is no length of a request
_EPOCH, _SECOND = np.datetime64("2000-01-01", "ns"), np.timedelta64(1, "s")
_STATISTICS = ("input_cv", "longest_input", "output_cv", "requests")


class Rows(NamedTuple):
    """The requests of a trace, in order: (n,) arrays; `times` [s] begin at 0, and are none where a file has none."""

    times: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray


class Trace(Entry):
    """Lengths of requests: means, spreads and maxima of prompts and outputs; and the requests themselves."""

    UNITS: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("input_len", "longest_input", "output_len", "longest_output"), "token")
    )

    requests: Count | None = None
    """How many requests the numbers are of."""
    input_len: Tokens
    input_cv: Variation = 0
    """Standard deviation over mean, of all requests of the trace (divided by their number, not by one less)."""
    longest_input: Tokens | None = None
    """None: that of the rows, or the mean where there are none and prompts do not vary."""
    output_len: Tokens
    output_cv: Variation
    longest_output: Tokens
    lengths: Shape | None = None
    """The distribution of lengths where there are no rows; None: lognormal, or fixed where nothing varies."""
    rows: str | None = None
    """The requests as a table, names of columns in the first line; or the name of a file of the package."""

    @model_validator(mode="after")
    def _check_longest(self) -> Trace:
        if self.longest_output < self.output_len:
            raise ValueError(
                f"got a longest_output of {self.longest_output:g}, expected {self.output_len:g} or more, the output_len"
            )
        if self.input_cv > 0 and self.longest_input is None and self.rows is None:
            raise ValueError(f"got an input_cv of {self.input_cv:g} without a longest_input, expected both")
        return self

    @property
    def shape(self) -> Shape:
        """The distribution of lengths, where they are drawn."""
        return self.lengths or ("lognormal" if self.output_cv > 0 else "fixed")

    @cached_property
    def requests_in_order(self) -> Rows:
        """The rows; none where the entry has only numbers. Read when they are first used."""
        if self.rows is None:
            return Rows(np.empty(0), np.empty(0), np.empty(0))
        if "\n" in self.rows:
            return _rows(read_table(self.rows.encode(), self.title), self.title)
        return _rows(read_csv(_in_package(self.rows), self.rows), self.rows)


def with_numbers(written: Mapping[str, Any], folder: Path, where: str) -> Mapping[str, Any]:
    """An entry as `Trace` has it: what it names as its `file` (relative to `folder`) is read, and summed up."""
    if "rows" in written and "file" not in written:
        _check_rows(written["rows"], f"{where}.rows")
    if "file" not in written:
        return written
    file, *rest = written["file"], *(name for name in written if name in (*Trace.UNITS, *_STATISTICS, "rows"))
    if rest:
        raise InputError(f"{where}: got a file and {rest[0]}, expected either a file or numbers")
    if not isinstance(file, str | Path):
        raise InputError(f"{where}.file: got {shown(file)}, expected the path of a CSV file")
    rows = _rows(read_csv(folder / file, f"{where}: {file}"), f"{where}: {file}")
    kept = {name: value for name, value in written.items() if name != "file"}
    return {"title": Path(file).stem, **kept, **statistics(rows, f"{where}: {file}"), "rows": _text(rows)}


def _check_rows(rows: object, where: str) -> None:
    if not isinstance(rows, str) or ("\n" not in rows and not _in_package(rows).is_file()):
        raise InputError(f"{where}: got {shown(rows)}, expected a table as text; name a CSV file under 'file'")
    if "\n" in rows:
        _rows(read_table(rows.encode(), where), where)


def _in_package(name: str) -> Path:
    return Path(str(files("servegrid.catalog"))) / "traces" / name


def statistics(rows: Rows, where: str) -> dict[str, float]:
    """The numbers of an entry, of these requests."""
    found: dict[str, float] = {"requests": len(rows.inputs)}
    for name, lengths in (("input", rows.inputs), ("output", rows.outputs)):
        mean = float(lengths.mean())
        if mean < 1:
            raise InputError(f"{where}: got {name}s of {mean:g} tokens in the mean, expected 1 or more")
        found[f"{name}_len"] = mean
        found[f"{name}_cv"] = sqrt(float(((lengths - mean) ** 2).mean())) / mean
        found[f"longest_{name}"] = max(float(lengths.max()), 1)
    return found


def _text(rows: Rows) -> str:
    """The rows as a table that `Trace.rows` takes; times to the nanosecond."""
    names = [*TIMES[: 1 if len(rows.times) else 0], *COLUMNS[0]]
    columns = ([f"{time:.9f}".rstrip("0").rstrip(".") for time in rows.times.tolist()],) if len(rows.times) else ()
    lengths = ([f"{length:.0f}" for length in part.tolist()] for part in (rows.inputs, rows.outputs))
    return "\n".join([",".join(names), *map(",".join, zip(*columns, *lengths, strict=True))]) + "\n"


def _rows(table: Table, where: str) -> Rows:
    inputs, outputs = (_lengths(table, column, where) for column in _columns(table, where))
    return Rows(_times(table, where), np.array(inputs, float), np.array(outputs, float))


def _columns(table: Table, where: str) -> tuple[str, str]:
    """The columns of the inputs' and the outputs' lengths."""
    # Where neither pair is whole, the one that is begun says which column is missing.
    columns = max(COLUMNS, key=lambda pair: sum(name in table.columns for name in pair))
    missing = [name for name in columns if name not in table.columns]
    if missing:
        expected = ", or ".join(" and ".join(pair) for pair in COLUMNS)
        raise InputError(f"{where}: there is no column {missing[0]!r}, expected {expected}")
    if not table.rows:
        raise InputError(f"{where}: the table has no rows, expected one for each request")
    return columns


def _lengths(table: Table, column: str, where: str) -> list[int]:
    return [
        _length(text, f"{where}, {row}, {column}") for row, text in zip(table.rows, table.columns[column], strict=True)
    ]


def _length(text: str | None, where: str) -> int:
    """A number of tokens; also as 12.0, which programs write where a column has gaps."""
    try:
        number = float(text or "")
    except ValueError:
        number = -1
    if not (0 <= number <= LONGEST and number.is_integer()):
        raise InputError(f"{where}: got {shown(text)}, expected a whole number of tokens from 0 to {LONGEST:,}")
    return int(number)


def _times(table: Table, where: str) -> np.ndarray:
    """When requests came [s], the first at 0; none where there is no such column."""
    column = next((name for name in TIMES if name in table.columns), None)
    if column is None:
        return np.empty(0)
    read = _seconds if column == TIMES[0] else _moment
    times = [
        read(text, f"{where}, {row}, {column}") for row, text in zip(table.rows, table.columns[column], strict=True)
    ]
    _check_order(times, table, column, where)
    return np.array([time - times[0] for time in times], float)


def _check_order(times: Sequence[float], table: Table, column: str, where: str) -> None:
    for index in range(1, len(times)):
        if times[index] < times[index - 1]:
            earlier, later = (table.columns[column][place] for place in (index - 1, index))
            raise InputError(
                f"{where}, {table.rows[index]}, {column}: got {shown(later)} after {shown(earlier)}, "
                "expected requests in the order of their arrival"
            )


def _seconds(text: str | None, where: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = -1
    if not (number >= 0 and isfinite(number)):
        raise InputError(f"{where}: got {shown(text)}, expected a time in s, 0 or more")
    return number


def _moment(text: str | None, where: str) -> float:
    """A date with a time, in seconds; to 100 ns, as Azure's traces have it."""
    try:
        since = float((np.datetime64(text or "", "ns") - _EPOCH) / _SECOND)
    except ValueError:
        since = nan
    if not isfinite(since):
        raise InputError(f"{where}: got {shown(text)}, expected a date and a time such as 2023-11-16 18:15:46.68")
    return since
