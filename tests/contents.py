"""A small sweep whose store has files of every kind, and what is really in a store, found without servegrid."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Half of it does not fit the memory, so that there are chunks of nothing but NaN and false; one output has fewer axes.
SWEEP: dict[str, Any] = {
    "name": "spare",
    "axes": {"max_batch_size": [1, 7, 64], "precision": ["fp16", "int4"], "page_size": [1, 16, 300]},
    "values": {
        "model": "llama-3.1-70b",
        "hbm_bandwidth": "2 TB/s",
        "hbm_capacity": "80 GiB",
        "seq_len": 8192,
    },
    "outputs": ["itl", "feasible", "kv_bytes_per_request"],
}
BLOCK_BYTES = 60  # of results: a block is one batch limit, one precision and all page sizes
BLOCKS = 3 * 2
CHUNKS = 6 + 6 + 2
DOCUMENTS = 14  # everything else in the store: metadata, labels, facts
ROOT = "zarr.json"


def files(store: Path) -> dict[str, bytes]:
    """Key -> bytes of every file, hidden ones too."""
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def timeless(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same, but for the time of making, in which two runs of the same sweep differ."""
    if ROOT not in contents:
        return dict(contents)
    root = json.loads(contents[ROOT])
    del root["attributes"]["created"]
    return {**contents, ROOT: json.dumps(root).encode()}


def attributes(contents: Mapping[str, bytes]) -> dict[str, Any]:
    """The attributes of the dataset."""
    found: dict[str, Any] = json.loads(contents[ROOT])["attributes"]
    return found


def chunks(contents: Iterable[str], *variables: str) -> list[str]:
    """The keys of the chunks of some variables (without a name: of the outputs of the sweep), in order."""
    of = variables or SWEEP["outputs"]
    return sorted(key for key in contents if key.split("/")[0] in of and "/c" in key)


def flipped(content: bytes, position: int, bit: int = 0) -> bytes:
    """The bytes with one bit turned."""
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]
