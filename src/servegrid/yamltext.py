"""What was given, in Python or in a file, as YAML that makes it again; it is kept with the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import yaml

# The C ones, where there are any: 100,000 labels take 1 s instead of 10.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def as_yaml(content: Mapping[str, Any], order: Iterable[str]) -> str:
    """The content as YAML, its keys in this order."""
    ordered = {key: content[key] for key in order if key in content}
    return str(yaml.dump(_plain(ordered), Dumper=_DUMPER, sort_keys=False, allow_unicode=True))


def from_yaml(text: str) -> dict[str, Any]:
    """The content of such a text."""
    content: dict[str, Any] = yaml.load(text, Loader=_LOADER)
    return content


def nested(table: xr.DataArray) -> dict[str, Any]:
    """A table as mappings of mappings: {axis: {label: value or the next axis}}."""
    axis = str(table.dims[0])
    labels = table[axis].values.tolist()
    rows = [table.isel({axis: index}) for index in range(len(labels))]
    return {axis: {label: nested(row) if row.dims else row.item() for label, row in zip(labels, rows, strict=True)}}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, xr.DataArray) and value.coords:
        return _plain(nested(value) if value.dims else value.item())
    if isinstance(value, np.ndarray | pd.Series | pd.Index | xr.DataArray):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, int | float | str | None) else str(getattr(value, "name", value))
