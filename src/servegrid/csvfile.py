"""Reading CSV files that people wrote: every fault is one sentence that names the file and the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from servegrid.errors import InputError
from servegrid.yamlfile import read_bytes


class Table(NamedTuple):
    """A table by columns, gaps as None; `rows` say in messages which line of the file a row is."""

    columns: Mapping[str, Sequence[str | None]]
    rows: Sequence[str]


def read_csv(path: Path, where: str) -> Table:
    """A CSV file with names in its first line; lines that begin with # are comments. `where` begins each message."""
    return read_table(read_bytes(path), where)


def read_table(content: bytes, where: str) -> Table:
    """The same of what such a file holds."""
    lines = list(_lines(content, where))
    if not lines:
        raise InputError(f"{where}: the file is empty, expected names of columns and rows of values")
    (_, header), *rows = lines
    for name in header:
        if not name or header.count(name) > 1:
            raise InputError(f"{where}: the column {name!r} stands {'nameless' if not name else 'twice'} in the header")
    for line, values in rows:
        if len(values) != len(header):
            raise InputError(f"{where}, line {line}: got {len(values)} values, expected {len(header)} as in the header")
    columns = {name: [values[index] or None for _, values in rows] for index, name in enumerate(header)}
    return Table(columns, [f"line {line}" for line, _ in rows])


def _lines(content: bytes, where: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that hold values, with their numbers in the file."""
    try:
        reader = csv.reader(content.decode("utf-8-sig").splitlines(), strict=True)
        for values in reader:
            if values and not values[0].lstrip().startswith("#"):
                yield reader.line_num, [value.strip() for value in values]
    except UnicodeDecodeError:
        raise InputError(f"{where}: got bytes that are not UTF-8, expected a text file") from None
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: not comma-separated values ({error})") from None
