"""The benchmark of ways to keep results, on a few regions of some kB: each gives back what it was given."""

from __future__ import annotations

import json
import os
from math import prod
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import keeping
from benchmarks.grid import TINY, Problem
from benchmarks.keeping import COMPRESSORS, MECHANISMS, OUTPUTS, TABLES, Results, Way, compute, measure

SMALL = Problem({axis: values for axis, values in TINY.axes.items() if axis != "efficiency"})
WAYS = (*MECHANISMS, *COMPRESSORS)
CHUNKS = {"2 KiB": 2**11, "256 bytes": 2**8}


@pytest.fixture(scope="module")
def results() -> Results:
    return compute(SMALL, 2**11, regions=5, nbytes=1e6)


def skip_unless_installed(way: Way) -> None:
    if way.commit_every:
        pytest.importorskip("icechunk")


def test_the_ways_asked_for_are_there() -> None:
    assert len(MECHANISMS) == 6
    assert [way.commit_every for way in MECHANISMS[3:]] == [1, 16, 2**31]
    assert len({way.name for way in COMPRESSORS}) == 9
    assert all(way.codecs[-1] == keeping.CRC for way in WAYS[1:])


def test_the_results_are_those_of_the_whole_grid(results: Results) -> None:
    assert results.shape == tuple(SMALL.sizes.values())
    assert len(results.pieces) == 5
    whole = compute(SMALL, 2**30, regions=5, nbytes=1e6)
    assert whole.chunk == whole.shape
    for part, arrays in results.pieces:
        for name in OUTPUTS:
            values = arrays[name]
            assert values.shape == tuple(slices.stop - slices.start for slices in part)
            assert values.dtype == np.float64
            np.testing.assert_array_equal(values, whole.pieces[0][1][name][part])


def test_no_more_regions_than_fit(results: Results) -> None:
    each = len(OUTPUTS) * 8 * prod(results.chunk)
    assert len(compute(SMALL, 2**11, regions=5, nbytes=3 * each + 1).pieces) == 3
    assert len(compute(SMALL, 2**11, regions=5, nbytes=1).pieces) == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_what_is_read_is_what_was_written_bit_for_bit(way: Way, results: Results, tmp_path: Path) -> None:
    skip_unless_installed(way)
    assert way.write(tmp_path, results) > 0
    if not way.commit_every:
        assert len([path for path in tmp_path.glob("*/c/**/*") if path.is_file()]) == len(OUTPUTS) * len(results.pieces)
    found = way.read(tmp_path, results)
    expected = [arrays[name] for _, arrays in results.pieces for name in OUTPUTS]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.view(np.uint64), other.view(np.uint64))


@pytest.mark.parametrize("way", MECHANISMS[:3], ids=lambda way: way.name)
def test_only_fsync_syncs(way: Way, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    way.write(tmp_path, results)
    chunks = len(OUTPUTS) * len(results.pieces)
    assert len(synced) >= chunks if way.store is keeping.SyncedStore else not synced


def test_what_differs_is_noticed(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_the_last_region(way: Way, folder: Path, results: Results) -> float:
        return write(way, folder, results._replace(pieces=results.pieces[:-1]))

    write = Way.write
    monkeypatch.setattr(Way, "write", without_the_last_region)
    with pytest.raises(ArithmeticError, match="lz4, crc32c: what was read is not what was written"):
        keeping.once(MECHANISMS[1], results)


def test_the_best_of_all_rounds_counts(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = iter({"write_s": write, "read_s": read, "files": 9} for write, read in [(3.0, 2.0), (2.0, 4.0), (4.0, 3.0)])
    monkeypatch.setattr(keeping, "once", lambda way, results: next(rows))
    assert measure(MECHANISMS[:1], results) == {"files, lz4": {"write_s": 2.0, "read_s": 2.0, "files": 9}}


@pytest.mark.parametrize("installed", [True, False])
def test_all_rows_of_both_tables(installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed:
        pytest.importorskip("icechunk")
    else:
        monkeypatch.setattr(keeping, "icechunk", None)
    for name, value in {"PROBLEM": SMALL, "CHUNKS": CHUNKS, "ROUNDS": 1}.items():
        monkeypatch.setattr(keeping, name, value)
    file = tmp_path / "figures.json"
    arguments = ["--regions", "2", "--megabytes", "1", "--json", str(file)]
    done = CliRunner().invoke(keeping.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output.count("not installed") == (0 if installed else 2 * 3)
    report = json.loads(file.read_text())
    assert [(each["table"], each["chunk_bytes"]) for each in report] == [
        (what, nbytes) for nbytes in CHUNKS.values() for what in TABLES
    ]
    for each in report:
        assert list(each["rows"]) == [way.name for way in TABLES[each["table"]][1]]
        for name, row in each["rows"].items():
            assert name in done.output
            if installed or "icechunk" not in name:
                assert min(row.values()) > 0
                assert row["regions"] == 2
            else:
                assert row == {}
