"""A run's summary as tables for the terminal: who is best, and with which configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any

from servegrid import show
from servegrid.quantity import Quantity
from servegrid.sheet import Sheet
from servegrid.summary import FLAGS, Summary, objective
from servegrid.sweepfile import SELECTED

MOST_COLUMNS = 12
MOST_ROWS = 24
_UNITS_IN_HEADS = ("token/s", "USD", "token/USD")  # these have no sizes such as ms and GiB that cells would tell apart


def tables(summary: Summary) -> Iterator[Sheet]:
    """For two groups (as models and accelerators) a matrix of the best values; then the best configurations."""
    name = objective(summary.parameters.sweep)
    if name is None or not summary.found.best:
        return
    where = ", where the filter holds" if SELECTED in summary.evaluator.outputs else ""
    winners, scores = summary.winners(), summary.scores()
    quantity = summary.parameters.graph.quantity(name)
    if len(summary.groups) == 2:
        values = {labels: point[name] for labels, point in winners.items()}
        yield _matrix(f"Best {_head(name, quantity)}{where}", summary, values)
    per = f" of each {summary.groups[0]}" if summary.groups else ""
    best: dict[Any, tuple[Any, ...]] = {}
    for labels in winners:
        first = labels[:1]
        if first not in best or scores[labels] > scores[best[first]]:
            best[first] = labels
    yield _configurations(f"Configurations of the best {name}{per}", [winners[key] for key in best.values()], summary)


def _matrix(title: str, summary: Summary, values: Mapping[tuple[Any, ...], float]) -> Sheet:
    """Rows of one axis, columns of the other, the shorter one across."""
    rows, columns = (list(dict.fromkeys(labels[side] for labels in values)) for side in (0, 1))
    across = len(columns) <= len(rows) or len(columns) <= MOST_COLUMNS
    if not across:
        rows, columns = columns, rows
    down, side = summary.groups if across else summary.groups[::-1]
    cells = []
    for row in rows:
        found = [values.get((row, column) if across else (column, row)) for column in columns]
        cells.append(
            [
                _cell(row, _quantity(summary, down)),
                *("-" if value is None or isnan(value) else show.plain(value) for value in found),
            ]
        )
    names = [_cell(column, _quantity(summary, side)) for column in columns]
    return Sheet(title, [f"{down} \\ {side}", *names], cells, right=names)


def _configurations(title: str, points: list[dict[str, Any]], summary: Summary) -> Sheet:
    shown = [key for key in points[0] if key not in FLAGS]
    quantities = {key: _quantity(summary, key) for key in shown}
    heads = {key: _head(key, quantity) for key, quantity in quantities.items()}
    rows = [[_cell(point[key], quantities[key]) for key in shown] for point in points[:MOST_ROWS]]
    numbers = [heads[key] for key in shown if not (isinstance(points[0][key], str) or _is_label(quantities[key]))]
    more = f" (the first {MOST_ROWS} of {len(points)})" if len(points) > MOST_ROWS else ""
    return Sheet(title + more, list(heads.values()), rows, right=numbers)


def _quantity(summary: Summary, key: str) -> Quantity | None:
    graph = summary.parameters.graph
    return graph.quantity(key) if key in graph.nodes or key in graph.inputs else None


def _is_label(quantity: Quantity | None) -> bool:
    return quantity is not None and quantity.kind == "label"


def _head(key: str, quantity: Quantity | None) -> str:
    """The name of a column, with the unit where the cells do not carry it."""
    return f"{key} ({quantity.unit})" if quantity is not None and quantity.unit in _UNITS_IN_HEADS else key


def _cell(value: float | str, quantity: Quantity | None) -> str:
    if isinstance(value, str):
        return value
    if quantity is not None and _is_label(quantity):
        return quantity.label(value)
    if quantity is None or quantity.unit in _UNITS_IN_HEADS:
        return "-" if isnan(value) else show.plain(value)
    return show.number(value, quantity.unit)
