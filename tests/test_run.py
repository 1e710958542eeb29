"""Runs: progress, the summary against a slow search, however often a run is begun again, and signals in the middle."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from datasets import assert_same_bits, stamps
from hypothesis import given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import planning
from servegrid.api import load
from servegrid.errors import CrewError, MachineError, Stopped
from servegrid.missing import Part
from servegrid.runner import Report, store_sweep
from servegrid.summary import MOST_LABELS, Summary, summarise
from servegrid.threads import Threads

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

MiB = 2**20
FLAGS = ("feasible", "selected")
GRID: dict[str, Any] = {
    "axes": {
        "precision": ["fp16", "int4"],
        "model": ["llama-3.1-8b", "llama-3.1-70b"],
        "page_size": [1, 16, 300],
        "hardware": ["h100-sxm", "mi300x", "l4"],
        "seq_len": [1024, 8192, 131072],
        "max_batch_size": [1, 7, 64],
    }
}
POINTS = 2 * 2 * 3 * 3 * 3 * 3
QUICK: dict[str, Any] = {**GRID, "where": "ttft <= 2 and itl <= 0.02"}
NO_HARDWARE: dict[str, Any] = {
    "axes": {
        "seq_len": {"from": 1000, "to": 1000 + MOST_LABELS, "step": 1},
        "hbm_bandwidth": ["1 TB/s", "2 TB/s"],
        "max_batch_size": [4, 8],
    },
    "values": {"model": "llama-3.1-8b", "precision": "fp16", "hbm_capacity": "80 GiB", "peak_flops": 1e15},
    "outputs": ["itl", "throughput"],
}


class Counted:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.finished: list[int] = []

    def start(self, points: int, done: int) -> None:
        self.started.append((points, done))

    def __call__(self, points: int) -> None:
        self.finished.append(points)


# Progress.


FEW = {**GRID, "axes": {**GRID["axes"], "seq_len": [1024], "hardware": ["h100-sxm"]}}
FEW_POINTS = POINTS // 9


@pytest.mark.parametrize(("region", "threads"), [(planning.LARGEST_REGION, 2), (900, 1), (900, 4), (60, 3)])
def test_every_point_is_counted_once(
    region: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", region)
    counted = Counted()
    sg.run(**FEW, out=tmp_path / "o.zarr", threads=threads, progress=counted).close()
    assert counted.started == [(FEW_POINTS, 0)]
    assert sum(counted.finished) == FEW_POINTS
    assert (len(counted.finished) > 1) == (region < MiB)


def test_points_that_are_stored_are_done_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", 200)
    out = tmp_path / "o.zarr"
    sg.run(**FEW, out=out).close()
    chunks = [key for key in stamps(out) if key.startswith("itl/")]
    assert len(chunks) > 4
    for lost in chunks[:2]:
        (out / lost).unlink()
    counted = Counted()
    sg.run(**FEW, out=out, progress=counted).close()
    [(points, done)] = counted.started
    assert points == FEW_POINTS
    assert 0 < done < points
    assert done + sum(counted.finished) == points
    again = Counted()
    sg.run(**FEW, out=out, progress=again).close()
    assert again.started == [(FEW_POINTS, FEW_POINTS)]
    assert sum(again.finished) == 0


def test_each_part_counts_its_own_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", 200)
    parts = [Counted() for _ in range(3)]
    for number, counted in enumerate(parts, 1):
        sg.run(**FEW, out=tmp_path / "o.zarr", part=f"{number}/3", progress=counted).close()
    started = [counted.started for counted in parts]
    assert sum(points for [(points, _)] in started) == FEW_POINTS
    assert [done for [(_, done)] in started] == [0, 0, 0]
    for counted in parts:
        assert sum(counted.finished) == counted.started[0][0] > 0


# The summary, against a search that looks at every point in the order of the grid.


def _dims(found: xr.Dataset, names: list[str]) -> set[Hashable]:
    return {axis for name in names for axis in found[name].dims}


def by_search(
    found: xr.Dataset, order: Iterable[str], objective: str, lower: bool
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Labels along the first two axes that are short -> the best point that counts."""
    judged = [name for name in (objective, "feasible", "selected") if name in found]
    axes = [axis for axis in order if axis in _dims(found, judged)]
    grid = xr.broadcast(*(found[name] for name in judged))[0]
    groups = [axis for axis in axes if found.sizes[axis] <= MOST_LABELS][:2]
    wide = {name: variable.broadcast_like(grid).transpose(*axes) for name, variable in found.items()}
    best: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}
    for place in itertools.product(*(range(found.sizes[axis]) for axis in axes)):
        here = {str(name): variable.values[place].item() for name, variable in wide.items()}
        score = -here[objective] if lower else here[objective]
        if not here["feasible"] or not here.get("selected", True) or np.isnan(score):
            continue
        labels = {axis: found[axis].values[index].item() for axis, index in zip(axes, place, strict=True)}
        group = tuple(labels[axis] for axis in groups)
        if group not in best or score > best[group][0]:
            best[group] = (score, labels | here)
    return {group: point for group, (_, point) in best.items()}


def reported(sweep: dict[str, Any], folder: Path, threads: int = 1) -> Report:
    return store_sweep(load(**deepcopy(sweep)), folder / "o.zarr", crew=Threads.of(threads))


def summarised(sweep: dict[str, Any], folder: Path, threads: int = 1) -> Summary:
    return summarise(reported(sweep, folder, threads))


def winners(summary: Summary) -> dict[tuple[str, ...], dict[str, Any]]:
    """Labels of each group -> its best point, without the flags, which are true there."""
    if summary.best is None:
        return {}
    groups = summary.best.found.dims
    points = summary.best.stack(group=groups) if groups else summary.best.expand_dims("group")
    found = {}
    for index in np.flatnonzero(points.found.values):
        point = points.isel(group=index).reset_coords()
        here = {str(name): variable.item() for name, variable in point.items() if name not in ("group", "found")}
        found[tuple(here[str(axis)] for axis in groups)] = here
    return found


def without_flags(points: dict[tuple[str, ...], dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {group: {name: here[name] for name in here if name not in FLAGS} for group, here in points.items()}


@pytest.mark.parametrize("region", [2**26, 700])
@pytest.mark.parametrize(
    ("sweep", "objective", "lower"),
    [
        pytest.param(GRID, "throughput", False, id="the highest throughput of what fits"),
        pytest.param(QUICK, "throughput", False, id="the highest throughput where the filter holds"),
        pytest.param({**QUICK, "outputs": ["itl", "ttft"]}, "itl", True, id="the lowest latency, with a filter"),
        pytest.param(
            {**GRID, "outputs": ["ttft"], "derive": {"fits": "1 if feasible else 0"}},
            "ttft",
            True,
            id="the lowest time to the first token of what fits, where an expression uses the flag",
        ),
        pytest.param(NO_HARDWARE, "itl", True, id="the lowest latency on axes of numbers, the first of them long"),
    ],
)
def test_the_summary_is_what_a_slow_search_finds(
    sweep: dict[str, Any],
    objective: str,
    lower: bool,
    region: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", region)
    found = sg.sweep(**deepcopy(sweep))
    summary = summarised(sweep, tmp_path, threads=3)
    assert winners(summary) == without_flags(by_search(found, sweep["axes"], objective, lower))
    assert summary.shares == {name: pytest.approx(found[name].mean().item()) for name in FLAGS if name in found}


def test_the_search_has_ties_to_break() -> None:
    """Pages of 1 and of 16 tokens hold 1,024 alike: without ties, the tests above would not see who wins."""
    found = sg.sweep(**GRID)
    pages = found.throughput.sel(seq_len=1024)
    assert (pages.sel(page_size=1) == pages.sel(page_size=16)).all()
    best = by_search(found, GRID["axes"], "throughput", lower=False)
    assert {point["page_size"] for point in best.values()} == {1}


def test_shares_count_points_of_the_whole_grid(tmp_path: Path) -> None:
    summary = summarised({**GRID, "where": "max_batch_size >= 7"}, tmp_path)
    # The filter depends on one axis only, two of whose three values pass it.
    assert summary.shares["selected"] == pytest.approx(2 / 3)


def test_nothing_that_fits_has_no_best(tmp_path: Path) -> None:
    hopeless = {**GRID, "axes": {**GRID["axes"], "model": ["gpt-3"], "hardware": ["l4"]}}
    summary = summarised(hopeless, tmp_path)
    assert summary.best is None
    assert summary.shares == {"feasible": 0}


@pytest.mark.parametrize("outputs", [["kv_fragmentation"], ["hbm_bandwidth"]])
def test_where_nothing_is_better_there_is_nothing_to_look_for(outputs: list[str], tmp_path: Path) -> None:
    assert summarised({**GRID, "outputs": outputs}, tmp_path) == Summary({}, None)


def test_numbers_of_single_precision_are_those_of_the_store(tmp_path: Path) -> None:
    single = {**QUICK, "dtype": "float32"}
    summary, found = summarised(single, tmp_path), sg.sweep(**deepcopy(single))
    assert summary.best is not None
    assert summary.best.throughput.dtype == np.float32
    counting = found.throughput.where(found.feasible & found.selected)
    highest = counting.max([axis for axis in found.dims if axis not in summary.best.found.dims])
    np.testing.assert_array_equal(summary.best.throughput, highest.transpose(*summary.best.found.dims))


def test_a_summary_tells_how_it_gets_on(tmp_path: Path) -> None:
    counted = Counted()
    summarise(reported(QUICK, tmp_path), counted)
    assert counted.started == [(POINTS, 0)]
    assert sum(counted.finished) == POINTS


@pytest.mark.parametrize(
    ("failure", "told", "message"),
    [
        (KeyboardInterrupt(signal.SIGTERM), Stopped, "stopped; {out} is finished, and the same command sums it up"),
        (CrewError("all is lost"), MachineError, "all is lost; {out} is finished, and the same command sums it up"),
    ],
)
def test_whoever_stops_a_summary_is_told_that_the_results_are_safe(
    failure: BaseException, told: type[BaseException], message: str, tmp_path: Path
) -> None:
    class Failing(Counted):
        def __call__(self, points: int) -> None:
            raise failure

    done = reported(QUICK, tmp_path)
    with pytest.raises(told) as stop:
        summarise(done, Failing())
    assert str(stop.value) == message.format(out=tmp_path / "o.zarr")


# What a run stores, however it came to its end.

RESUMED = {
    "two flags along all axes": QUICK,
    "a flag along one axis only": {**GRID, "where": "max_batch_size >= 7"},
    "results that lack axes along which blocks are cut": {
        **GRID,
        "axes": {"page_size": [1, 16, 300], "efficiency": [0.4, 0.5], **GRID["axes"]},
        "outputs": ["ttft", "kv_fragmentation"],
    },
    "axes of numbers": NO_HARDWARE,
    "nothing that is better higher or lower": {**GRID, "outputs": ["kv_fragmentation", "weight_bytes"]},
    "single precision": {**QUICK, "dtype": "float32"},
    "no axes": {**GRID, "axes": {axis: labels[:1] for axis, labels in GRID["axes"].items()}},
}


@pytest.fixture(scope="module", params=RESUMED.values(), ids=list(RESUMED))
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, Report]:
    """A sweep, its store in many blocks, and the report of the run that made it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "LARGEST_REGION", 700)
        out = tmp_path_factory.mktemp("undisturbed")
        report = reported(request.param, out)
    return request.param, out, report


@settings(max_examples=12)
@given(data=st.data())
def test_a_run_that_goes_on_computes_what_is_lost_and_nothing_else(
    undisturbed: tuple[dict[str, Any], Path, Report], data: st.DataObject
) -> None:
    sweep, out, first = undisturbed
    outputs = first.plan.evaluator.outputs
    keys = sorted(key for key in stamps(out / "o.zarr") if key.split("/")[0] in outputs)
    assert len(keys) == first.chunks == first.tally.chunks
    lost = data.draw(st.one_of(st.sets(st.sampled_from(keys)), st.just(set(keys))))
    threads = data.draw(st.integers(1, 3))  # before anything is touched: a draw may end the example
    for key in lost:
        (out / "o.zarr" / key).unlink()
    before = stamps(out / "o.zarr")
    report = reported(sweep, out, threads=threads)
    assert (report.chunks, report.stored, report.tally.chunks, report.missing) == (
        len(keys),
        len(keys) - len(lost),
        len(lost),
        0,
    )
    after = stamps(out / "o.zarr")
    assert before.items() <= after.items()
    assert set(after) == set(before) | lost


@pytest.mark.parametrize("of", [1, 3, 20])
def test_parts_leave_nothing_to_a_run_after_them(of: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", 4000)
    out, sweep = tmp_path / "parts" / "o.zarr", load(**deepcopy(QUICK))
    for number in reversed(range(1, of + 1)):
        report = store_sweep(sweep, out, part=Part(number, of))
        assert (report.missing == 0) == (number == 1)
    report = reported(QUICK, tmp_path / "parts")
    assert (report.stored, report.tally.chunks) == (report.chunks, 0)


# Signals in the middle of a run of the real command, slowed down so that it can be met half-way.

SLOW = """
import os, time
from servegrid import planning, store
planning.LARGEST_REGION = 1000
real = store.Store.write
def write(self, *arguments):
    real(self, *arguments)
    os.write(2, b"wrote\\n")  # in one piece, whichever thread it is
    time.sleep(0.05)
store.Store.write = write
from servegrid.cli import main
main(prog_name="servegrid")
"""

SLOW_SWEEP = """
axes:
  model: [llama-3.1-8b, llama-3.1-70b]
  hardware: [h100-sxm, l4]
  seq_len: {from: 1000, to: 2000, num: 101}
  max_batch_size: [1, 7, 64]
values: {precision: fp16}
"""


@pytest.fixture
def halfway(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a slow run in a folder of its own, and returns when it has written something."""
    (tmp_path / "slow.yaml").write_text(SLOW_SWEEP)

    def start(*options: str) -> subprocess.Popen[str]:
        run = subprocess.Popen(
            [sys.executable, "-c", SLOW, "run", "slow.yaml", "--out", "new/o.zarr", "--threads", "2", *options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr is not None
        assert run.stderr.readline() == "wrote\n"
        return run

    return start


def _said(stderr: str) -> str:
    return "\n".join(line for line in stderr.splitlines() if line != "wrote")


KEPT = r"([\d,]+) of ([\d,]+) chunks are stored, and the same command goes on from there"


def assert_goes_on(folder: Path) -> tuple[int, int]:
    """The same command finishes the store, without touching what is there; how many chunks were and are there."""
    out, outputs = folder / "new" / "o.zarr", sg.plan(folder / "slow.yaml").evaluator.outputs
    assert json.loads((out / "zarr.json").read_text())["attributes"]["status"] == "unfinished"
    before = {key: stamp for key, stamp in stamps(out).items() if key.split("/")[0] in outputs}
    with sg.run(folder / "slow.yaml", out=out) as found:
        assert_same_bits(found, sg.sweep(folder / "slow.yaml"))
    after = {key: stamp for key, stamp in stamps(out).items() if key.split("/")[0] in outputs}
    assert 0 < len(before) < len(after)
    assert before.items() <= after.items()
    assert [path.name for path in out.rglob(".*")] == []
    return len(before), len(after)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_what_is_kept_and_goes_on(
    number: signal.Signals, halfway: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = halfway()
    run.send_signal(number)
    _, stderr = run.communicate(timeout=60)
    said = re.fullmatch(f"servegrid: stopped; {KEPT}", _said(stderr))
    assert said is not None, stderr
    assert run.returncode == 128 + number
    assert [path.name for path in tmp_path.rglob("*.partial")] == []
    assert assert_goes_on(tmp_path) == tuple(int(number.replace(",", "")) for number in said.groups())


def test_a_killed_run_goes_on(halfway: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Though it was to throw the store of another sweep away: it has."""
    sg.run(**NO_HARDWARE, out=tmp_path / "new" / "o.zarr").close()
    run = halfway("--overwrite")
    run.kill()
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["o.zarr"]
    assert_goes_on(tmp_path)


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        pytest.param(2000, "the same command goes on from there", id="less than the metadata"),
        pytest.param(30_000, KEPT, id="less than a chunk"),
    ],
)
def test_a_machine_that_refuses_large_files_is_a_fault_of_the_machine(limit: int, kept: str, tmp_path: Path) -> None:
    """A limit on the size of files is the full disk that any user may make."""
    (tmp_path / "s.yaml").write_text(
        "axes:\n"
        "  seq_len: {from: 1000, to: 1400, step: 1}\n"
        "  hbm_bandwidth: {from: 1 TB/s, to: 2 TB/s, num: 400}\n"
        "values: {model: llama-3.1-8b, hbm_capacity: 80 GiB, peak_flops: 1 PFLOP/s, precision: fp16}\n"
        "outputs: [ttft, itl]\n"
    )
    limited = (
        "import resource\n"
        "from servegrid.cli import main\n"
        "import servegrid as sg\n"
        "sg.run('s.yaml', out='warm.zarr').close()\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "main(['run', 's.yaml', '--out', 'new/o.zarr'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    sentence = rf"servegrid: new/o\.zarr: could not be written \(File too large\); ({kept})\n"
    assert re.fullmatch(sentence, ran.stderr), ran.stderr
    assert ran.returncode == 3
    assert [path.name for path in tmp_path.rglob("*.partial")] == []
    with (
        xr.open_zarr(tmp_path / "warm.zarr") as warm,
        sg.run(tmp_path / "s.yaml", out=tmp_path / "new/o.zarr") as found,
    ):
        xr.testing.assert_equal(found, warm)


# Strange but legal: the stored result, the one in memory and the lazy one are the same.

LLAMA: dict[str, Any] = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp16", "seq_len": 8192}


def everywhere(sweep: dict[str, Any], out: Path) -> xr.Dataset:
    found = sg.sweep(**sweep)
    lazy = sg.sweep(**sweep, lazily=True).load()
    sg.run(**sweep, out=out).close()
    with sg.run(**sweep, out=out) as stored:  # once more: it is finished
        for other in (lazy, stored.load()):
            assert set(other.variables) == set(found.variables)
            for name, variable in found.variables.items():
                assert other.variables[name].values.tobytes() == variable.values.tobytes(), name
    return found


def test_outputs_may_all_be_inputs(tmp_path: Path) -> None:
    sweep = {
        "axes": {"hardware": ["h100-sxm", "l4"]},
        "values": {"seq_len": 8},
        "outputs": ["hbm_bandwidth", "seq_len"],
    }
    found = everywhere(sweep, tmp_path / "o.zarr")
    assert found.hbm_bandwidth.values.tolist() == [3.35e12, 300e9]
    assert found.seq_len.item() == 8


def test_an_axis_may_replace_a_default_output(tmp_path: Path) -> None:
    found = everywhere({"axes": {"max_active_requests": [0, 1, 64]}, "values": LLAMA}, tmp_path / "o.zarr")
    assert found.throughput.dims == ("max_active_requests",)
    # One request alone: 16.06 GB of weights and 1 GiB of its cache at 3.35 TB/s.
    assert found.throughput.values[:2] == pytest.approx([0, 3.35e12 / (2 * 8_030_261_248 + 2**30)], rel=1e-12)
    assert found.feasible.values.tolist() == [False, True, True]


def test_labels_may_be_texts_and_numbers(tmp_path: Path) -> None:
    table = {"team": {"a": 0.5, 1: 0.25}}
    sweep = {"axes": {"team": ["a", 1]}, "values": {**LLAMA, "efficiency": table}, "outputs": ["ttft"]}
    found = everywhere(sweep, tmp_path / "o.zarr")
    assert found.team.values.tolist() == ["a", "1"]
    slow, fast = found.ttft.values[1] - 1e-5, found.ttft.values[0] - 1e-5
    assert slow == pytest.approx(2 * fast, rel=1e-9)


def test_an_axis_may_have_a_million_values(tmp_path: Path) -> None:
    bandwidths = {"from": "1 TB/s", "to": "16 TB/s", "num": 10**6}
    sweep = {"axes": {"hbm_bandwidth": bandwidths}, "values": LLAMA, "outputs": ["itl"]}
    found = everywhere(sweep, tmp_path / "o.zarr")
    np.testing.assert_allclose(found.itl * found.hbm_bandwidth, 2 * 8_030_261_248 + 2**30, rtol=1e-12)
    assert found.itl.values[0] == pytest.approx(16 * found.itl.values[-1], rel=1e-12)
