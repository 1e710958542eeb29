"""Results on disk: a Zarr v3 store, written a region at a time, opened by plain `xarray.open_zarr`.

The store itself says what is done: a chunk is absent, or whole and with a checksum. The root's metadata says what the
store is to hold, and, until nothing is missing, that it is unfinished.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from servegrid.blocks import Blocks, Region, Variable, part_of
from servegrid.errors import InputError, MachineError
from servegrid.place import Folder, Place, place_of
from servegrid.results import recorded

# 200 M points, 1.2 GiB of results, two threads, two runs: 315 MiB in 1.8 and 2.3 s; zstd 1 makes 308 MiB in 3.2 and
# 8.2 s, zstd 3 276 MiB in 5.6 and 7.4 s, no compression 1,248 MiB in 3.9 and 8.0 s. Every reader checks the checksum.
COMPRESSORS = (BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec())

ROOT = "zarr.json"
STATUS = "status"
UNFINISHED = "unfinished"  # the status of a store in which chunks are missing: they read as NaN, 0 and false
_MADE = ("created", "servegrid_version", "numba_version")  # who made it, and when: no part of what it is

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Root:
    """The metadata of a store that servegrid made: what it is to hold."""

    content: Document
    where: str

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of the dataset."""
        return dict(self.content["attributes"])

    @property
    def is_finished(self) -> bool:
        """Whether nothing is missing, as far as its last run knew."""
        return STATUS not in self.attributes

    @property
    def fingerprint(self) -> dict[str, str]:
        """Quantity -> hash of what it depended on; see `results.fingerprints`."""
        return recorded(self.attributes)

    @property
    def arrays(self) -> dict[str, Document]:
        """Variable -> its metadata."""
        return dict(self.content["consolidated_metadata"]["metadata"])

    def size(self, axis: str) -> int:
        """The length of an axis."""
        return int(self.arrays[axis]["shape"][0])

    def block(self, variables: Mapping[str, Variable], sizes: Mapping[str, int]) -> dict[str, int]:
        """The block in which the store's variables are cut; axes of none of them are whole."""
        block = dict(sizes)
        for name, variable in variables.items():
            if name in self.arrays:
                chunk = _chunk(self.arrays[name])
                if len(chunk) != len(variable.axes):
                    raise InputError(
                        f"{self.where}: {name}: its chunks have {len(chunk)} axes, expected {len(variable.axes)}"
                    )
                block.update(zip(variable.axes, chunk, strict=True))
        return block


def _chunk(array: Document) -> tuple[int, ...]:
    """The lengths of an array's chunks; 1 at least."""
    lengths = tuple(int(length) for length in array["chunk_grid"]["configuration"]["chunk_shape"])
    if min(lengths, default=1) < 1:
        raise ValueError(lengths)
    return lengths


def read_root(place: Place) -> Root | None:
    """The metadata of the store at a place; None where servegrid has made none, or where it makes no sense."""
    try:
        root = Root(json.loads(place.read(ROOT) or b"null"), str(place))
        for array in root.arrays.values():
            _chunk(array)
        made = {"servegrid_version", "sweep"} <= root.attributes.keys() and root.fingerprint and root.arrays
        return root if made else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def documents(template: xr.Dataset, blocks: Blocks, variables: Mapping[str, Variable]) -> dict[str, bytes]:
    """Key -> bytes of everything in a store but the chunks of its results: metadata, labels, facts.

    `template`: the dataset with all of its metadata. `variables`: what will be written, in chunks of the blocks.
    """
    kept: dict[str, Buffer] = {}
    memory = MemoryStore(kept)
    encoding: dict[str, dict[str, object]] = {str(name): {"compressors": COMPRESSORS} for name in template.variables}
    for name, variable in variables.items():
        encoding[name]["chunks"] = variable.shape(blocks.block) or None
    with warnings.catch_warnings():
        _accept_unspecified()
        template.to_zarr(
            memory,
            mode="w",
            compute=False,
            consolidated=False,
            encoding=encoding,
            zarr_format=3,
        )
        zarr.consolidate_metadata(memory)
    return {key: value.to_bytes() for key, value in kept.items()}


def _accept_unspecified() -> None:
    """Labels are text, for which Zarr v3 has no final specification yet; zarr-python and xarray read it.

    The same for consolidated metadata: without it, opening a store costs a request for each variable.
    """
    warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
    warnings.filterwarnings("ignore", message="Consolidated metadata", category=ZarrUserWarning)


def lay_out(place: Place, wanted: Mapping[str, bytes], stale: Iterable[str] = ()) -> None:
    """Make every document of the store be there; what is right already is left as it is.

    A root that names the store comes first where there is none, and last where it changes: whenever the machine
    stops, the root describes the chunks that are there. `stale`: chunks that a change of the root makes wrong.
    """
    if is_laid_out(place, wanted):
        return
    new, old = json.loads(wanted[ROOT]), read_root(place)
    if old is None:
        _write_root(place, new, UNFINISHED)
    else:
        new["attributes"] |= {key: old.attributes[key] for key in _MADE if key in old.attributes}
        _write_root(place, old.content, UNFINISHED)
        place.remove(stale)
    for key in differing(place, wanted):
        place.write(key, wanted[key])
    _write_root(place, new, UNFINISHED)


def differing(place: Place, wanted: Mapping[str, bytes]) -> list[str]:
    """The keys of the documents, the root aside, that are missing or are not as they should be."""
    return [key for key, content in wanted.items() if key != ROOT and place.read(key) != content]


def is_laid_out(place: Place, wanted: Mapping[str, bytes]) -> bool:
    """Whether `lay_out` would change nothing."""
    return has_root(place, wanted) and not differing(place, wanted)


def has_root(place: Place, wanted: Mapping[str, bytes]) -> bool:
    """Whether the root is as it should be."""
    old = read_root(place)
    return old is not None and _same(old.content, json.loads(wanted[ROOT]))


def _same(old: Document, new: Document) -> bool:
    """Whether two roots describe the same store, whoever made it and whether or not it is finished."""

    def lasting(content: Document) -> Document:
        attributes = {key: value for key, value in content["attributes"].items() if key not in (*_MADE, STATUS)}
        return {**content, "attributes": attributes}

    return lasting(old) == lasting(new)


def finish(place: Place) -> None:
    """Say in the root that nothing is missing; nobody else may be writing."""
    root = read_root(place)
    if root is not None and not root.is_finished:
        # An extension that was cut off, and given up, has left metadata of outputs that the store does not hold.
        owners = (key.removesuffix(f"/{ROOT}") for key in place.keys("") if key.endswith(f"/{ROOT}"))
        place.remove([f"{name}/{ROOT}" for name in owners if name not in root.arrays])
        _write_root(place, root.content, None)
    place.tidy()


def _write_root(place: Place, content: Document, status: str | None) -> None:
    """Write the root's metadata, unless it is there."""
    attributes = {key: value for key, value in content["attributes"].items() if key != STATUS}
    if status is not None:
        attributes[STATUS] = status
    written = json.dumps({**content, "attributes": attributes}, indent=2).encode()
    if place.read(ROOT) != written:
        place.write(ROOT, written)


@dataclass(frozen=True)
class Store:
    """The chunks of the results: which there are, writing and reading them."""

    place: Place
    variables: Mapping[str, Variable]
    blocks: Blocks

    def array(self, name: str) -> zarr.Array[Any]:
        """A variable, for zarr."""
        if name not in self._arrays:
            try:
                array = zarr.open_array(self._zarr_store, path=name, mode="r+")
            except FileNotFoundError as error:
                raise MachineError(f"{self.place}: the process that is to write does not see the store") from error
            # Chunks that hold nothing but the fill value are written, too: what is absent is not done.
            self._arrays[name] = array.with_config(cast(Any, {"write_empty_chunks": True}))
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        return {}

    @cached_property
    def _zarr_store(self) -> ZarrStore:
        return self.place.zarr_store()

    def write(self, region: Region, arrays: Mapping[str, np.ndarray]) -> None:
        """Write outputs of one block; several may be written at the same time."""
        with self.place.reached():
            for name, values in arrays.items():
                self.array(name)[part_of(region, self.variables[name])] = values

    def read(self, region: Region, name: str) -> np.ndarray:
        """One output of a block; OSError where the place fails, any other error where the chunk is damaged."""
        try:
            return np.asarray(self.array(name)[part_of(region, self.variables[name])])
        except OSError:
            raise
        except Exception:  # whatever a decoder makes of wrong bytes
            self.place.read(self.key(region, name))  # an OSError where it is the place that fails
            raise

    def grid(self, name: str) -> tuple[int, ...]:
        """How many chunks the variable has along its axes."""
        return self.variables[name].shape(self.blocks.counts)

    def present(self, name: str) -> np.ndarray:
        """A flag for each chunk of the variable: whether it is there."""
        found = np.zeros(self.grid(name), dtype=bool)
        prefix = f"{name}/c"
        for key in self.place.keys(prefix):
            position = tuple(int(part) for part in key[len(prefix) :].split("/") if part)
            if len(position) == found.ndim and all(map(int.__lt__, position, found.shape)):
                found[position] = True
        return found

    def key(self, region: Region, name: str) -> str:
        """Where the chunk of a block is kept."""
        return chunk_key(name, (region[axis].start // self.blocks.block[axis] for axis in self.variables[name].axes))


def chunk_key(name: str, position: Iterable[int]) -> str:
    """Where a chunk of a variable is kept."""
    return "/".join([name, "c", *map(str, position)])


def cut_short(root: Root, variables: Mapping[str, Variable], sizes: Mapping[str, int]) -> list[str]:
    """The chunks at the old ends of axes that are to grow, where a chunk was longer than what was left.

    Whether such a chunk holds the new labels could not be seen from its being there.
    """
    keys = []
    for name, variable in variables.items():
        if name in root.arrays:
            old, new = [root.size(axis) for axis in variable.axes], variable.shape(sizes)
            chunk = variable.shape(root.block({name: variable}, sizes))
            counts = [ceil(size / length) for size, length in zip(old, chunk, strict=True)]
            cut = [place for place in range(len(old)) if new[place] > old[place] and old[place] % chunk[place]]
            for position in np.ndindex(*counts):
                if any(position[place] == counts[place] - 1 for place in cut):
                    keys.append(chunk_key(name, position))
    return keys


def is_store(given: object) -> bool:
    """Whether this names a store rather than a sweep file."""
    return isinstance(given, str | Path) and ("://" in str(given) or Path(given).is_dir())


def open_store(place: str | Path | Place, as_dask: bool = True) -> xr.Dataset:
    """The dataset of a store, lazily; without dask, what is indexed is read when its values are asked for."""
    place = place if isinstance(place, Place) else place_of(place)
    with warnings.catch_warnings(), place.reached():
        _accept_unspecified()
        path = place.path if isinstance(place, Folder) else str(place)
        dataset: xr.Dataset = xr.open_zarr(path, chunks={} if as_dask else None)
        return dataset
