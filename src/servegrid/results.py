"""Results with labels: units, long names, sources and coordinates around the arrays, in memory or lazily."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from servegrid.blocks import Blocks, Region, Variable, block_sizes, owns
from servegrid.errors import InputError, nearest
from servegrid.evaluate import Evaluator
from servegrid.parameters import Parameters, describe
from servegrid.program import DTYPES

FINGERPRINT = "fingerprint"  # the attribute that holds them

Layer = dict[Any, Any]  # dask has no types for the tasks of a graph

# Results of one lazy chunk: large against the cost of a dask task (1 ms), small against memory.
LAZY_CHUNK_BYTES = 64 * 2**20


def labelled(parameters: Parameters, arrays: Mapping[str, np.ndarray | da.Array]) -> xr.Dataset:
    """The result dataset around `arrays` (output -> array along its axes)."""
    variables = {}
    for name in parameters.graph.outputs:
        quantity = parameters.graph.quantity(name)
        if name in arrays:
            variables[name] = (parameters.axes[name], arrays[name], describe(quantity))
        else:  # an output that is an input, too
            dtype = np.dtype(parameters.sweep.dtype) if quantity.kind == "float" else DTYPES[quantity.kind]
            values = parameters.inputs[name].astype(dtype)
            variables[name] = (parameters.axes[name], values, parameters.dataset[name].attrs)
    coordinates = {name: c.variable for name, c in parameters.dataset.coords.items() if name not in variables}
    return xr.Dataset(variables, coords=coordinates, attrs=_attributes(parameters))


def lazy(parameters: Parameters, evaluator: Evaluator, chunks: Mapping[str, int] | None = None) -> xr.Dataset:
    """The result dataset as dask arrays: one task computes all outputs of one chunk of the grid.

    `chunks`: lengths along some axes; the others stay whole. Without it, chunks of 64 MiB.
    """
    sizes = evaluator.sizes
    if chunks is None:
        block = block_sizes(sizes, evaluator.outputs.values(), LAZY_CHUNK_BYTES)
    else:
        _check_chunks(chunks, sizes)
        block = {axis: min(chunks.get(axis, size), size) for axis, size in sizes.items()}
    blocks = Blocks(sizes, block)
    token = tokenize(evaluator.program.source, dict(evaluator.inputs), block)
    regions = list(blocks)
    layer: Layer = {(f"region-{token}", index): (evaluator.region, region) for index, region in enumerate(regions)}
    arrays = {}
    for name, variable in evaluator.outputs.items():
        key = f"{name}-{token}"
        parts: Layer = {
            (key, *_position(region, block, variable)): (getitem, (f"region-{token}", index), name)
            for index, region in enumerate(regions)
            if owns(region, variable)
        }
        graph = HighLevelGraph(
            {f"region-{token}": layer, key: parts}, {f"region-{token}": set(), key: {f"region-{token}"}}
        )
        lengths = tuple(_lengths(sizes[axis], block[axis]) for axis in variable.axes)
        arrays[name] = da.Array(graph, key, lengths, dtype=evaluator.program.dtype(name))
    return labelled(parameters, arrays)


def _check_chunks(chunks: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    for axis, length in chunks.items():
        if axis not in sizes:
            raise InputError(f"chunks: unknown axis {axis!r}{nearest(axis, sizes)}, expected one of {', '.join(sizes)}")
        if not isinstance(length, int) or length < 1:
            raise InputError(f"chunks.{axis}: got {length!r}, expected a whole number, at least 1")


def _position(region: Region, block: Mapping[str, int], variable: Variable) -> tuple[int, ...]:
    return tuple(region[axis].start // block[axis] for axis in variable.axes)


def _lengths(size: int, length: int) -> tuple[int, ...]:
    return tuple(min(length, size - start) for start in range(0, size, length))


def template(parameters: Parameters, evaluator: Evaluator) -> xr.Dataset:
    """The result dataset with lazy zeros in place of results: all of its metadata, none of its bytes."""
    zeros = {
        name: da.zeros(variable.shape(evaluator.sizes), dtype=evaluator.program.dtype(name), chunks=-1)
        for name, variable in evaluator.outputs.items()
    }
    return labelled(parameters, zeros)


def _attributes(parameters: Parameters) -> dict[str, str]:
    """What is needed to make the dataset again, and to know where it comes from."""
    sweep = parameters.sweep
    attributes = {
        "title": sweep.name,
        "question": sweep.question,
        "solver": sweep.solver.name,
        "solver_title": sweep.solver.title,
        "sweep": sweep.text,
        FINGERPRINT: "\n".join(f"{name} {digest}" for name, digest in fingerprints(parameters).items()),
        "servegrid_version": version("servegrid"),
        "numba_version": version("numba"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {key: value for key, value in attributes.items() if value}


def fingerprints(parameters: Parameters, sizes: Mapping[str, int] | None = None) -> dict[str, str]:
    """A hash of everything that the results depend on: each input's numbers, each equation.

    `sizes`: only the first numbers of each input along these axes count.
    """
    sizes = parameters.sizes if sizes is None else sizes
    found = {}
    for name in sorted(parameters.inputs):
        axes = parameters.axes[name]
        part = parameters.inputs[name][tuple(slice(sizes[axis]) for axis in axes)]
        found[name] = _digest(" ".join(axes).encode(), part.tobytes())
    for name, node in parameters.graph.nodes.items():
        found[name] = _digest(f"{name} = {node.formula}".encode(), *map(str.encode, node.quantity.labels))
    return found


def recorded(attributes: Mapping[str, str]) -> dict[str, str]:
    """The fingerprints that a dataset says it was made with."""
    return dict(line.split(" ") for line in attributes[FINGERPRINT].splitlines())


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The quantities of `before` whose fingerprint is another one now, or that are no more."""
    return [name for name, digest in before.items() if now.get(name) != digest]


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]
