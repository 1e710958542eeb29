"""The stores that runs leave: Zarr v3, read by plain xarray, the same bits as in memory, gone on with as they are."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from contents import files
from datasets import assert_same_bits, stamps

import servegrid as sg
from servegrid import place, planning, store
from servegrid.planning import LEAST_MEMORY

# Labels are text, for which Zarr v3 has no final specification: zarr-python warns where it writes or lists them.
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

# A label axis with a table, an axis on which only one output depends, text, counts, flags and NaN.
SWEEP: dict[str, Any] = {
    "name": "spare",
    "question": "What does a slow memory cost?",
    "axes": {
        "model": ["llama-3.1-8b", "llama-3.1-70b"],
        "page_size": [1, 16, 300],
        "hardware": ["h100-sxm", "l4"],
        "memory": ["good", "slow", "größer"],
        "max_batch_size": [1, 2, 5, 7, 64],
    },
    "values": {
        "precision": "fp16",
        "seq_len": 1000,
        "hbm_bandwidth": {"memory": {"good": "4 TB/s", "slow": "1 TB/s", "größer": "8 TB/s"}},
    },
    "derive": {"share": {"expression": "itl / ttft", "unit": "1", "long_name": "a step over the first"}},
    "where": "ttft <= 2",
}
POINTS = 2 * 3 * 2 * 3 * 5


@pytest.fixture(scope="module")
def expected() -> xr.Dataset:
    return sg.sweep(**SWEEP)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "spare.zarr"
    sg.run(**SWEEP, out=out).close()
    return out


@pytest.fixture
def tiny_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions of a few hundred bytes, so that a small sweep has many."""
    monkeypatch.setattr(planning, "LARGEST_REGION", 400)


def metadata(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "zarr.json").read_text())
    return content


@cache
def results() -> frozenset[str]:
    """The variables that a run computes; the others are labels and facts."""
    return frozenset(sg.plan(**SWEEP).evaluator.outputs)


def chunks(out: Path) -> dict[str, tuple[int, int]]:
    """The chunks of results that are there, and which files they are."""
    return {key: stamp for key, stamp in stamps(out).items() if key.split("/")[0] in results()}


def beside(folder: Path) -> list[str]:
    """Everything in a folder, hidden files, too."""
    return sorted(path.name for path in folder.iterdir())


# What is in a store.


def test_stored_and_in_memory_are_the_same_bits(stored: Path, expected: xr.Dataset) -> None:
    with xr.open_zarr(stored) as found:
        assert_same_bits(found, expected)


def test_the_sweep_is_written_down_in_one_order(stored: Path, expected: xr.Dataset) -> None:
    assert metadata(stored)["attributes"]["sweep"] == expected.attrs["sweep"]


@pytest.mark.parametrize(("region", "threads"), [(120, 1), (700, 3), (1500, 2), (2300, 5), (5000, 4)])
def test_bits_depend_neither_on_regions_nor_on_threads(
    region: int, threads: int, expected: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", region)
    with sg.run(**SWEEP, out=tmp_path / "o.zarr", threads=threads) as found:
        assert len(found.itl.data.dask) > 1
        assert_same_bits(found, expected)
    assert beside(tmp_path) == ["o.zarr"]


def test_memory_budget_and_threads_of_a_large_run_change_nothing(tmp_path: Path) -> None:
    # 300,000 points: 128 threads under the least memory make regions below 1 MiB.
    sweep = {
        **SWEEP,
        "axes": {**SWEEP["axes"], "max_batch_size": {"from": 1, "to": 8333, "step": 1}},
    }
    found = sg.run(**sweep, out=tmp_path / "o.zarr", threads=128, memory=LEAST_MEMORY)
    assert len(found.itl.chunks[0]) * len(found.itl.chunks[1]) > 1
    assert_same_bits(found, sg.sweep(**sweep, threads=1))


def test_plain_xarray_reads_a_store_without_servegrid_and_without_a_warning(stored: Path, tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["servegrid"] = None  # importing it fails from here on
import xarray
found = xarray.open_zarr({str(stored)!r}).load()
assert xarray.open_zarr({str(stored)!r}, consolidated=True).sizes == found.sizes
best = found.throughput.where(found.selected).max().item()
print(found.sizes["memory"], found.model.values.tolist(), best.hex(), found.ttft.attrs["units"])
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    with xr.open_zarr(stored) as found:
        best = found.load().throughput.where(found.selected).max().item()
    assert (ran.stderr, ran.stdout) == ("", f"3 ['llama-3.1-8b', 'llama-3.1-70b'] {best.hex()} s\n")


def test_metadata_is_version_3_and_consolidated(stored: Path, expected: xr.Dataset) -> None:
    group = metadata(stored)
    assert (group["zarr_format"], group["node_type"]) == (3, "group")
    assert set(group["consolidated_metadata"]["metadata"]) == {str(name) for name in expected.variables}


def test_chunks_are_those_of_the_plan(tmp_path: Path, tiny_regions: None) -> None:
    plan = sg.plan(**SWEEP)
    out = tmp_path / "o.zarr"
    sg.run(**SWEEP, out=out).close()
    assert len(plan.blocks) > 10
    for name, variable in plan.evaluator.outputs.items():
        chunk = metadata(out / name)["chunk_grid"]["configuration"]["chunk_shape"]
        assert tuple(chunk) == tuple(plan.blocks.block[axis] for axis in variable.axes), name


def test_every_quantity_is_stored_along_its_own_axes_only(stored: Path) -> None:
    with xr.open_zarr(stored) as found:
        assert found.ttft.dims == ("model", "hardware", "max_batch_size")
        assert found.kv_fragmentation.dims == ("page_size",)
        assert found.itl.dims == ("model", "page_size", "hardware", "memory", "max_batch_size")


def test_a_quantity_without_axes_is_stored_as_one_number(tmp_path: Path) -> None:
    point: dict[str, Any] = {
        "axes": {"page_size": [10, 16]},
        "values": {"model": "llama-3.1-8b", "hardware": "l4", "precision": "fp16", "seq_len": 100},
    }
    with sg.run(**point, outputs=["ttft", "kv_fragmentation"], out=tmp_path / "o.zarr") as found:
        assert found.ttft.dims == ()
        # 2 P S + 4 L H d S^2 FLOPs of Llama 3.1 8B at half of the L4's 121 TFLOP/s, and 10 us to launch.
        flops = 2 * 8_030_261_248 * 100 + 4 * 32 * 32 * 128 * 100**2
        assert found.ttft.item() == pytest.approx(flops / (121e12 * 0.5) + 1e-5, rel=1e-12)
        assert found.kv_fragmentation.values.tolist() == [0.0, 12 / 112]


def test_labels_units_long_names_and_sources_are_in_the_store(stored: Path) -> None:
    with xr.open_zarr(stored) as found:
        assert found.memory.values.tolist() == ["good", "slow", "größer"]
        assert found.max_batch_size.dtype == np.int64
        assert found.itl.attrs == {
            "units": "s",
            "display_units": "s",
            "long_name": "inter-token latency",
            "source": "mlsysim 0.1.1, ContinuousBatchingModel",
        }
        assert found.throughput.attrs["units"] == "count/s"
        assert found.throughput.attrs["display_units"] == "token/s"
        assert found.share.attrs["long_name"] == "a step over the first"
        assert found.selected.dtype == bool
        assert found.selected.attrs["long_name"] == "ttft <= 2"
        assert found.hbm_capacity.dims == ("hardware",)
        assert "h100-sxm: " in found.hbm_capacity.attrs["source"]
        assert "l4: " in found.hbm_capacity.attrs["source"]


def test_the_store_holds_what_makes_it_again(stored: Path, tmp_path: Path) -> None:
    with xr.open_zarr(stored) as found:
        assert found.attrs["title"] == "spare"
        assert found.attrs["question"] == "What does a slow memory cost?"
        assert found.attrs["solver"] == "continuous_batching"
        again = tmp_path / "again.yaml"
        again.write_text(found.attrs["sweep"], encoding="utf-8")
        assert_same_bits(sg.sweep(again), found.load())


def test_what_does_not_fit_is_false_zero_and_nan(stored: Path) -> None:
    with xr.open_zarr(stored) as found:
        small = found.sel(model="llama-3.1-70b", hardware="l4").load()
    assert not small.feasible.any()
    assert (small.throughput == 0).all()
    assert (small.max_active_requests == 0).all()
    assert small.itl.isnull().all()
    assert small.speedup_vs_static.isnull().all()
    assert not small.selected.any() or small.ttft.min() <= 2


# An existing store, and whatever else lies where a store is to be.


@pytest.fixture
def old(stored: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a store, in a folder of its own."""
    copy = tmp_path / "o.zarr"
    shutil.copytree(stored, copy)
    yield copy
    assert beside(tmp_path) == ["o.zarr"]


OTHER: dict[str, Any] = {**SWEEP, "name": "other", "values": {**SWEEP["values"], "seq_len": 999}}


def test_a_store_of_another_sweep_is_refused_and_left_alone(old: Path) -> None:
    before = files(old)
    with pytest.raises(sg.InputError) as refusal:
        sg.run(**OTHER, out=old)
    assert str(refusal.value) == (
        f"{old}: holds another sweep (seq_len is 1000 there, 999 in the sweep); "
        "give another name, or --overwrite to throw that store away"
    )
    assert files(old) == before


def test_overwrite_replaces_the_whole_store(old: Path) -> None:
    (old / "stale").write_text("from an older run")
    (old / "stale-output" / "c").mkdir(parents=True)
    (old / "stale-output" / "c" / "0").write_text("from an older run")
    with sg.run(**OTHER, out=old, overwrite=True) as found:
        assert_same_bits(found, sg.sweep(**OTHER))
    assert [path.name for path in old.iterdir() if path.name.startswith("stale")] == []


def test_overwrite_throws_the_other_store_away_at_once(old: Path, tiny_regions: None) -> None:
    """There is never a mixture: from the start on it is the new store, which holds what is finished of it."""
    of_old = {key: content for key, content in files(old).items() if "/c" in key}

    class Look:
        looks = 0

        def start(self, points: int, done: int) -> None:
            assert done == 0
            assert metadata(old)["attributes"]["title"] == "other"
            assert chunks(old) == {}

        def __call__(self, points: int) -> None:
            self.looks += 1
            assert all((old / key).read_bytes() != of_old.get(key) for key in chunks(old))

    look = Look()
    sg.run(**OTHER, out=old, overwrite=True, progress=look, threads=1).close()
    assert look.looks > 10


def test_overwrite_keeps_a_store_of_the_same_sweep(old: Path) -> None:
    before = chunks(old)
    sg.run(**SWEEP, out=old, overwrite=True).close()
    assert chunks(old) == before


def test_a_finished_store_is_left_as_it_is_by_the_same_sweep(old: Path) -> None:
    before, touched = files(old), stamps(old)
    sg.run(**SWEEP, out=old).close()
    assert (files(old), stamps(old)) == (before, touched)


def test_another_name_and_question_are_written_down_and_nothing_is_computed_again(old: Path) -> None:
    before = chunks(old)
    renamed = {**SWEEP, "name": "renamed", "question": "Why?"}
    with sg.run(**renamed, out=old) as found:
        assert_same_bits(found, sg.sweep(**renamed))
        assert (found.attrs["title"], found.attrs["question"]) == ("renamed", "Why?")
    assert chunks(old) == before


def test_the_time_of_making_is_that_of_the_first_run(old: Path) -> None:
    root = metadata(old)
    root["attributes"]["created"] = "2001-02-03T04:05:06+00:00"
    (old / "zarr.json").write_text(json.dumps(root))
    (old / "itl" / "c" / "0" / "0" / "0" / "0" / "0").unlink()
    with sg.run(**SWEEP, out=old) as found:
        assert found.attrs["created"] == "2001-02-03T04:05:06+00:00"


@pytest.mark.parametrize("changed", ["servegrid_version", "numba_version"])
def test_a_store_of_another_version_that_computed_the_same_goes_on(changed: str, old: Path) -> None:
    root = metadata(old)
    root["attributes"][changed] = "0.0.1"
    (old / "zarr.json").write_text(json.dumps(root))
    before = chunks(old)
    with sg.run(**SWEEP, out=old) as found:
        assert found.attrs[changed] == "0.0.1"
    assert chunks(old) == before


def test_a_run_follows_a_symbolic_link(old: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "link.zarr"
    link.symlink_to(old)
    sg.run(**OTHER, out=link, overwrite=True).close()
    assert link.is_symlink()
    assert beside(link.parent) == ["link.zarr"]
    with xr.open_zarr(old) as found:
        assert found.attrs["title"] == "other"


def test_only_stores_that_servegrid_made_are_overwritten(tmp_path: Path) -> None:
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("precious")
    for content in (None, "garbage", "[]", "{}", '{"zarr_format": 3, "node_type": "group", "attributes": {}}'):
        if content is not None:
            (thesis.parent / "zarr.json").write_text(content)
        for overwrite in (True, False):
            with pytest.raises(sg.InputError, match="work: is no store that servegrid made, and is left as it is"):
                sg.run(**SWEEP, out=thesis.parent, overwrite=overwrite)
        assert thesis.read_text() == "precious"
    assert beside(tmp_path) == ["work"]


@pytest.mark.parametrize("out", [".", "", "../o.zarr/../o.zarr", "./", ".."])
def test_the_current_folder_is_no_place_for_a_store(out: str, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is taken away is nobody's current one."""
    monkeypatch.chdir(old)
    before = files(old)
    with pytest.raises(sg.InputError, match="is the current folder or holds it"):
        sg.run(**OTHER, out=out, overwrite=True)
    assert files(old) == before


def test_a_store_that_another_run_is_writing_is_refused(old: Path) -> None:
    before = files(old)
    with place.place_of(old).locked(), pytest.raises(place.BusyError) as refusal:
        sg.run(**OTHER, out=old, overwrite=True)
    assert str(refusal.value) == (
        f"{old}: another run is writing this store; wait until it has ended, or share the work between runs with --part"
    )
    assert {key: content for key, content in files(old).items() if key != ".lock"} == before
    sg.run(**OTHER, out=old, overwrite=True).close()


# What is finished is kept.


@contextmanager
def failing_write(error: Exception, at: int) -> Iterator[None]:
    """Let the write number `at` fail, as it does when the disk is full."""
    real, calls = store.Store.write, iter(range(10**6))

    def write(self: store.Store, *arguments: Any) -> None:
        if next(calls) == at:
            raise error
        real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.Store, "write", write)
        yield


FULL = OSError(errno.ENOSPC, "No space left on device")
KEPT = r"; (\d+) of (\d+) chunks are stored, and the same command goes on from there"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at", [0, 7])
def test_a_full_disk_costs_nothing_that_is_finished(
    at: int, threads: int, expected: xr.Dataset, tmp_path: Path, tiny_regions: None
) -> None:
    out = tmp_path / "new" / "deeper" / "o.zarr"
    with failing_write(FULL, at), pytest.raises(sg.MachineError) as failure:
        sg.run(**SWEEP, out=out, threads=threads)
    before = chunks(out)
    said = re.fullmatch(re.escape(f"{out}: could not be written (No space left on device)") + KEPT, str(failure.value))
    assert said is not None
    # What other threads finish while the run ends is not told, but kept.
    assert int(said[1]) <= len(before)
    assert (at > 0) <= bool(before)
    assert metadata(out)["attributes"]["status"] == "unfinished"
    with sg.run(**SWEEP, out=out, threads=threads) as found:
        assert_same_bits(found, expected)
    assert before.items() <= chunks(out).items()
    assert len(chunks(out)) == int(said[2])


def test_any_other_failure_costs_nothing_that_is_finished_either(
    expected: xr.Dataset, tmp_path: Path, tiny_regions: None
) -> None:
    out = tmp_path / "o.zarr"
    with failing_write(ZeroDivisionError("a bug"), 5), pytest.raises(ZeroDivisionError, match="a bug"):
        sg.run(**SWEEP, out=out, threads=3)
    before = chunks(out)
    assert before
    with sg.run(**SWEEP, out=out) as found:
        assert_same_bits(found, expected)
    assert before.items() <= chunks(out).items()


def test_a_run_that_fails_after_overwrite_goes_on_without_it(old: Path, tiny_regions: None) -> None:
    with failing_write(FULL, 3), pytest.raises(sg.MachineError, match="No space left on device"):
        sg.run(**OTHER, out=old, overwrite=True)
    with sg.run(**OTHER, out=old) as found:
        assert_same_bits(found, sg.sweep(**OTHER))


def test_while_chunks_are_missing_the_store_says_that_it_is_unfinished(
    expected: xr.Dataset, tmp_path: Path, tiny_regions: None
) -> None:
    out = tmp_path / "o.zarr"
    seen: list[str] = []

    class Look:
        def start(self, points: int, done: int) -> None:
            seen.append(metadata(out)["attributes"]["status"])

        def __call__(self, points: int) -> None:
            with xr.open_zarr(out) as halfway:  # which is a dataset all the same
                assert halfway.sizes == expected.sizes
                seen.append(halfway.attrs["status"])

    sg.run(**SWEEP, out=out, progress=Look(), threads=1).close()
    assert len(seen) > 10
    assert set(seen) == {"unfinished"}
    assert metadata(out)["attributes"].keys() == expected.attrs.keys()


def test_what_killed_runs_have_left_is_taken_away(stored: Path, old: Path) -> None:
    for left in (".lock", "itl/.zarr.json.0.partial", "itl/c/0/0/.0.1.partial", "itl/c/9/.0.2.partial"):
        (old / left).parent.mkdir(parents=True, exist_ok=True)
        (old / left).write_bytes(b"half")
    sg.run(**SWEEP, out=old).close()
    assert files(old) == files(stored)


def test_every_chunk_is_there_though_it_holds_nothing_that_fits(tmp_path: Path, tiny_regions: None) -> None:
    """Zarr leaves chunks out that hold the fill value alone; here, what is absent is not done."""
    hopeless = {**SWEEP, "axes": {**SWEEP["axes"], "model": ["llama-3.1-70b"], "hardware": ["l4"]}}
    out = tmp_path / "o.zarr"
    with sg.run(**hopeless, out=out) as found:
        assert found.itl.isnull().all()
        assert not found.feasible.any()
    plan = sg.plan(**hopeless)
    counts = {name: prod(variable.shape(plan.blocks.counts)) for name, variable in plan.evaluator.outputs.items()}
    assert len(chunks(out)) == sum(counts.values()) > 20


# Checksums.


def test_every_chunk_has_a_checksum(stored: Path, expected: xr.Dataset) -> None:
    for name in expected.data_vars:
        codecs = [codec["name"] for codec in metadata(stored / str(name))["codecs"]]
        assert codecs == ["bytes", "blosc", "crc32c"], name


@pytest.mark.parametrize("name", ["throughput", "feasible", "max_active_requests", "kv_fragmentation"])
@pytest.mark.parametrize("where", [0, 20, -5, -1], ids=["head", "body", "end", "checksum"])
def test_plain_xarray_refuses_a_chunk_of_which_a_bit_is_wrong(name: str, where: int, old: Path) -> None:
    with xr.open_zarr(old) as found:
        found[name].load()
        chunk = old / name / "c" / "/".join("0" * found[name].ndim)
    content = bytearray(chunk.read_bytes())
    content[where] ^= 1
    chunk.write_bytes(content)
    with xr.open_zarr(old) as found, pytest.raises(ValueError, match="checksum do not match"):
        found[name].load()


# Places that cannot be written.


def test_a_run_that_could_write_nothing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: place.Folder, key: str, content: bytes) -> None:
        raise FULL

    monkeypatch.setattr(place.Folder, "write", write)
    out = tmp_path / "new" / "deeper" / "o.zarr"
    with pytest.raises(sg.MachineError, match=re.escape(f"{out}: could not be written (No space left on device)")):
        sg.run(**SWEEP, out=out)
    assert beside(tmp_path) == []


def test_a_folder_in_which_somebody_else_wrote_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new"

    def write(self: place.Folder, key: str, content: bytes) -> None:
        (folder / "note.txt").write_text("mine")
        raise FULL

    monkeypatch.setattr(place.Folder, "write", write)
    with pytest.raises(sg.MachineError, match="No space left on device"):
        sg.run(**SWEEP, out=folder / "o.zarr")
    assert beside(folder) == ["note.txt"]


def test_folders_of_a_path_that_cannot_be_made_are_not_left(tmp_path: Path) -> None:
    with pytest.raises((sg.InputError, sg.MachineError), match="File name too long"):
        sg.run(**SWEEP, out=tmp_path / "new" / ("x" * 300) / "o.zarr")
    assert beside(tmp_path) == []


def test_a_store_of_the_same_sweep_in_a_folder_that_may_not_be_written_is_refused(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = files(old), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))
    with pytest.raises(sg.MachineError, match=f"the folder {old} cannot be written; choose another, or change its"):
        sg.run(**SWEEP, out=old)
    assert files(old) == before
