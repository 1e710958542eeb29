"""The catalogue entry of a trace: how long requests are, as numbers or from a file with a row for each request."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from servegrid.catalog.entry import Count, Entry, in_unit
from servegrid.csvfile import Table, read_csv
from servegrid.errors import InputError, shown

Tokens = Annotated[float, Field(ge=1, allow_inf_nan=False), in_unit("token")]
COLUMNS = (("input_len", "output_len"), ("ContextTokens", "GeneratedTokens"))  # the latter are of Azure's traces
LONGEST = 10**9  # tokens: more is no length of a request


class Trace(Entry):
    """Lengths of requests: the mean prompt, and the outputs' mean, spread and maximum."""

    UNITS: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("input_len", "output_len", "longest_output"), "token")
    )

    requests: Count | None = None
    """How many requests the numbers are of."""
    input_len: Tokens
    output_len: Tokens
    output_cv: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Standard deviation over mean, of all requests of the trace (divided by their number, not by one less)."""
    longest_output: Tokens

    @model_validator(mode="after")
    def _check_longest(self) -> Trace:
        if self.longest_output < self.output_len:
            raise ValueError(
                f"got a longest_output of {self.longest_output:g}, expected {self.output_len:g} or more, the output_len"
            )
        return self


def with_numbers(written: Mapping[str, Any], folder: Path, where: str) -> Mapping[str, Any]:
    """An entry as `Trace` has it: what it names as its `file` (relative to `folder`) is read, and summed up."""
    if "file" not in written:
        return written
    file, *rest = written["file"], *(name for name in written if name in (*Trace.UNITS, "output_cv", "requests"))
    if rest:
        raise InputError(f"{where}: got a file and {rest[0]}, expected either a file or numbers")
    if not isinstance(file, str | Path):
        raise InputError(f"{where}.file: got {shown(file)}, expected the path of a CSV file")
    found = _numbers(read_csv(folder / file, f"{where}: {file}"), f"{where}: {file}")
    return {"title": Path(file).stem, **{name: value for name, value in written.items() if name != "file"}, **found}


def _numbers(table: Table, where: str) -> dict[str, float]:
    """The statistics of a table's requests."""
    inputs, outputs = (_lengths(table, column, where) for column in _columns(table, where))
    count = len(table.rows)
    input_len, output_len = sum(inputs) / count, sum(outputs) / count
    for name, mean in (("inputs", input_len), ("outputs", output_len)):
        if mean < 1:
            raise InputError(f"{where}: got {name} of {mean:g} tokens in the mean, expected 1 or more")
    variance = sum((length - output_len) ** 2 for length in outputs) / count
    return {
        "requests": count,
        "input_len": input_len,
        "output_len": output_len,
        "output_cv": sqrt(variance) / output_len,
        "longest_output": max(outputs),
    }


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
