"""Are two datasets the same, and which files of a store are the same files as before?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr
import yaml


def assert_same_bits(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Names, axes, types, attributes and every bit of every number, but for the order of variables."""
    assert set(found.variables) == set(expected.variables)
    assert set(found.coords) == set(expected.coords)
    for name, variable in expected.variables.items():
        same = found.variables[name]
        assert (same.dims, same.dtype, same.attrs) == (variable.dims, variable.dtype, variable.attrs), name
        assert same.values.tobytes() == variable.values.tobytes(), name
    assert timeless(found) == timeless(expected)


def timeless(dataset: xr.Dataset) -> dict[str, Any]:
    """Its attributes without the time of making, the sweep as data."""
    attributes = {str(key): value for key, value in dataset.attrs.items() if key != "created"}
    return {**attributes, "sweep": yaml.safe_load(attributes["sweep"])}


def stamps(store: Path) -> dict[str, tuple[int, int]]:
    """Chunk -> its file's inode and time of change [ns]: whoever writes a chunk anew makes another file."""
    found = {}
    for path in store.glob("*/c/**/*"):
        if path.is_file() and not path.name.startswith("."):
            status = path.stat()
            found[path.relative_to(store).as_posix()] = (status.st_ino, status.st_mtime_ns)
    return found
