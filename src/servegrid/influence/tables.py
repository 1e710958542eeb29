"""Elasticities, tornadoes and Sobol indices as rows: for people as a sheet, for programs as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from math import exp, inf, isfinite, isnan, log
from typing import Any

import numpy as np
import xarray as xr
from rich.text import Text

from servegrid import show
from servegrid.influence.elasticity import BOTTLENECK, FEASIBLE_AFTER, INPUT
from servegrid.influence.ranges import BOUND, BOUNDS
from servegrid.parameters import FEASIBLE
from servegrid.sheet import Sheet

Row = dict[str, Any]
Units = Mapping[str, str]

QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
_HEADING = ("title", "question", "solver", "at", "output", "step", "samples", "seed")
_FLAGS = (FEASIBLE, FEASIBLE_AFTER, BOTTLENECK)


def as_json(title: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The rows below what they are about; null for what does not exist."""
    clean = [
        {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in row.items()}
        for row in rows
    ]
    return json.dumps({**title, "rows": clean}, indent=2, default=str)


def as_csv(rows: Sequence[Row]) -> str:
    """The rows below the names of their columns; nothing for what does not exist."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value != value else value for key, value in row.items()})
    return text.getvalue()


def heading(dataset: xr.Dataset) -> dict[str, Any]:
    """What the rows are about: the sweep, the point, the step, what binds."""
    told = {key: value for key, value in dataset.attrs.items() if key in _HEADING}
    if shares := binding(dataset):
        told["bottleneck"] = shares
    return told


def lead(dataset: xr.Dataset) -> Iterator[Text]:
    """The same for people."""
    attributes = dataset.attrs
    yield Text.assemble((attributes["title"], "bold"), f"  {attributes.get('question', '')}".rstrip())
    if attributes.get("at"):
        yield Text(f"at {attributes['at']}")
    if shares := binding(dataset):
        told = ", ".join(label if share == 1 else f"{label} {100 * share:.3g} %" for label, share in shares.items())
        yield Text(f"what binds: {told}")


# Elasticities.


def is_point(dataset: xr.Dataset) -> bool:
    """Whether these are the elasticities of one point."""
    return all(dataset[output].size == dataset.sizes[INPUT] for output in outputs_of(dataset))


def outputs_of(dataset: xr.Dataset) -> list[str]:
    """The outputs that have elasticities."""
    return [str(name) for name in dataset.data_vars if name not in _FLAGS]


def elasticity_rows(dataset: xr.Dataset) -> list[Row]:
    """A row for each input and output; inputs of the greatest effect first."""
    rows = [
        {"input": name, **_numbers(dataset, name, output)}
        for name in dataset[INPUT].values.tolist()
        for output in outputs_of(dataset)
    ]
    key = "elasticity" if is_point(dataset) else "median"
    effect: dict[str, list[float]] = {}
    for row in rows:
        wide = max(abs(row[end]) for end in ("p10", "p90")) if key == "median" else 0.0
        # Rounded: the last digits of what is equal must not decide on the order.
        sizes = [0.0 if isnan(number) else round(number, 9) for number in (abs(row[key]), wide)]
        effect[row["input"]] = max(effect.get(row["input"], [0.0, 0.0]), sizes)
    return sorted(rows, key=lambda row: [-size for size in effect[row["input"]]])


def _numbers(dataset: xr.Dataset, name: str, output: str) -> Row:
    values = dataset[output].sel({INPUT: name}).values
    if not is_point(dataset):
        found = values[~np.isnan(values)]
        middle = {key: float(np.quantile(found, q)) if found.size else np.nan for key, q in QUANTILES.items()}
        return {"output": output, **middle, "points": found.size}
    one = dataset.sel({INPUT: name})
    elasticity, before, after = float(values.item()), one["value"].item(), one["changed"].item()
    change = exp(elasticity * log(after / before)) - 1 if after > 0 and before > 0 else np.nan
    return {"value": before, "changed": after, "output": output, "elasticity": elasticity, "change": change}


def elasticity_sheet(dataset: xr.Dataset, units: Units) -> Sheet:
    """A row for each input, a column for each output."""
    rows, outputs = elasticity_rows(dataset), outputs_of(dataset)
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["input"], []).append(row)
    if not is_point(dataset):
        cells = [[name, *map(_spread, group)] for name, group in grouped.items()]
        return Sheet("Elasticity: median (10 % to 90 % of the points)", ["input", *outputs], cells, right=outputs)
    lost = _lost(dataset)
    cells = [
        [name, *_before_after(group[0], units[name]), *(_short(row["elasticity"]) for row in group), text]
        for name, group in grouped.items()
        for text in ["nothing fits any more" if name in lost else _words(name, group)]
    ]
    columns = ["input", "value", "changed to", *outputs, "in words"]
    return Sheet("Elasticity", columns, cells, right=columns[1:-1], folds=True)


def _before_after(row: Row, unit: str) -> list[str]:
    return [show.number(row[key], unit) for key in ("value", "changed")]


def _words(name: str, group: Sequence[Row]) -> str:
    """'10 % more hbm_bandwidth: throughput +10 %, itl -9.1 %'."""
    value, changed = group[0]["value"], group[0]["changed"]
    moved = [f"{row['output']} {_percent(row['change'])}" for row in group if abs(row["change"]) >= 5e-5]
    if not value or isnan(changed):
        return "-"
    share = f"{100 * abs(changed / value - 1):.3g} %"
    return f"{share} {'more' if changed > value else 'less'} {name}: {', '.join(moved) or 'no change'}"


def _percent(change: float) -> str:
    return f"{100 * change:+.3g} %"


def _short(number: float) -> str:
    if isnan(number):
        return "-"
    text = f"{number:.3f}"
    return "0" if float(text) == 0 else text


def _spread(row: Row) -> str:
    low, middle, high = (_short(row[key]) for key in QUANTILES)
    return middle if low == middle == high else f"{middle} ({low} to {high})"


def _lost(dataset: xr.Dataset) -> set[str]:
    """The inputs whose change leaves no room for one request, at one point."""
    if FEASIBLE_AFTER not in dataset or not dataset[FEASIBLE].item():
        return set()
    gone = ~dataset[FEASIBLE_AFTER].values.reshape(-1)
    return set(dataset[INPUT].values[gone].tolist())


def binding(dataset: xr.Dataset) -> dict[str, float]:
    """Label -> the share of points at which that term binds [1], the greatest first; {} where it is not known."""
    if BOTTLENECK not in dataset:
        return {}
    codes, counts = np.unique(dataset[BOTTLENECK].values, return_counts=True)
    labels = dataset[BOTTLENECK].attrs["flag_meanings"].split()
    shares = {labels[code]: float(count / counts.sum()) for code, count in zip(codes, counts, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


# Tornadoes and Sobol indices.


def tornado_rows(dataset: xr.Dataset) -> list[Row]:
    """A row for each input: its two values, and the output at them."""
    output = dataset.attrs["output"]
    return [
        {"input": name, **_ends(dataset, name, "value", ""), **_ends(dataset, name, output, f"{output}_")}
        for name in dataset[INPUT].values.tolist()
    ]


def _ends(dataset: xr.Dataset, name: str, variable: str, prefix: str) -> Row:
    return {f"{prefix}{end}": float(dataset[variable].sel({INPUT: name, BOUND: end})) for end in BOUNDS}


def tornado_sheet(dataset: xr.Dataset, units: Units) -> Sheet:
    """The same for people, with the change from the baseline."""
    output = dataset.attrs["output"]
    baseline, unit = dataset[output].attrs["baseline"], dataset[output].attrs["display_units"]
    cells = [
        [
            row["input"],
            *(show.number(row[end], units[row["input"]]) for end in BOUNDS),
            *(_beside(row[f"{output}_{end}"], baseline, unit) for end in BOUNDS),
        ]
        for row in tornado_rows(dataset)
    ]
    columns = ["input", "low", "high", f"{output} at low", f"{output} at high"]
    return Sheet(f"{output}: {show.number(baseline, unit)} at the point itself", columns, cells, right=columns[1:])


def _beside(value: float, baseline: float, unit: str) -> str:
    """A number with its distance from the baseline: '1,701 token/s (-20 %)'."""
    change = value / baseline - 1 if baseline else inf
    return show.number(value, unit) + (f" ({_percent(change)})" if isfinite(change) else "")


def sobol_rows(dataset: xr.Dataset) -> list[Row]:
    """A row for each input: its range, indices and their intervals."""
    return [{"input": name, **_ends(dataset, name, "value", ""), **_orders(dataset, name)} for name in _names(dataset)]


def _names(dataset: xr.Dataset) -> Iterator[str]:
    yield from dataset[INPUT].values.tolist()


def _orders(dataset: xr.Dataset, name: str) -> Row:
    found: Row = {}
    for order in ("first_order", "total_order"):
        found[order] = float(dataset[order].sel({INPUT: name}))
        found |= _ends(dataset, name, f"{order}_interval", f"{order}_")
    return found


def sobol_sheet(dataset: xr.Dataset, units: Units) -> Sheet:
    """The same for people."""
    cells = [
        [
            row["input"],
            *(show.number(row[end], units[row["input"]]) for end in BOUNDS),
            *(_interval(row, order) for order in ("first_order", "total_order")),
        ]
        for row in sobol_rows(dataset)
    ]
    columns = ["input", "low", "high", "first order", "total order"]
    title = (
        f"Shares of the variance of {dataset.attrs['output']} (95 % intervals), {dataset.attrs['samples']:,} samples"
    )
    return Sheet(title, columns, cells, right=columns[1:])


def _interval(row: Row, order: str) -> str:
    low, high = (f"{row[f'{order}_{end}']:.2f}" for end in BOUNDS)
    return f"{row[order]:.3f} ({low} to {high})"
