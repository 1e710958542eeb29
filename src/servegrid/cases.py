"""Cases: a table whose rows are points, from a CSV file or a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from servegrid.csvfile import read_csv
from servegrid.errors import InputError, nearest, shown
from servegrid.yamlfile import validate


class _Spec(BaseModel):
    """The key `cases`, written out; a bare text is the file alone."""

    model_config = ConfigDict(extra="forbid")

    file: Path | None = None
    columns: dict[str, list[Any]] | None = None
    keep: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Cases:
    """A table by columns; `rows` and `where` say in messages which row and which table."""

    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[str]
    where: str
    keep: Sequence[str] = ()


def read_cases(written: Any, folder: Path) -> Cases:
    """The cases that a sweep names: a file, a DataFrame, or {file: , columns: , keep: }; InputError otherwise.

    Cases that were read already are returned as they are.
    """
    if isinstance(written, Cases):
        return written
    if isinstance(written, str | Path):
        written = {"file": written}
    elif isinstance(written, pd.DataFrame):
        written = {"columns": written}
    elif not isinstance(written, Mapping):
        raise InputError(f"cases: got {shown(written)}, expected a CSV file, a DataFrame, or {{file: , keep: }}")
    columns = written.get("columns")
    if isinstance(columns, pd.DataFrame):
        written = {**written, "columns": {str(name): columns[name].tolist() for name in columns}}
    spec = validate(_Spec, written, "cases: ")
    if (spec.file is None) == (spec.columns is None):
        raise InputError(f"cases: expected either file or columns, got {'neither' if spec.file is None else 'both'}")
    cases = _read_csv(spec.file, folder) if spec.file is not None else _from_columns(spec.columns or {})
    if not cases.rows:
        raise InputError(f"{cases.where}: the table has no rows, expected one or more")
    for name in spec.keep:
        if name not in cases.columns:
            raise InputError(f"{cases.where}: keep names {name!r}{nearest(name, cases.columns)}, expected a column")
    return Cases(cases.columns, cases.rows, cases.where, spec.keep)


def _from_columns(columns: Mapping[str, list[Any]]) -> Cases:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"cases.columns: got lengths {lengths}, expected columns of one length")
    return Cases(columns, [f"row {index}" for index in range(next(iter(lengths.values()), 0))], "cases")


def _read_csv(path: Path, folder: Path) -> Cases:
    where = f"cases {path}"
    table = read_csv(folder / path, where)
    return Cases(table.columns, table.rows, where)


def as_column(values: Sequence[Any]) -> list[Any]:
    """The values of a column that is kept: numbers where all of them are, NaN in its gaps; texts otherwise."""
    try:
        numbers = [nan if value is None else float(value) for value in values]
    except (ValueError, TypeError):
        return ["" if value is None else str(value) for value in values]
    whole = all(number.is_integer() and "." not in str(value) for number, value in zip(numbers, values, strict=True))
    return [int(number) for number in numbers] if whole else numbers
