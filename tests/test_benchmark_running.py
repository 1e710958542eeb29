"""The benchmarks of runs, on tiny grids: all contenders keep the same bits. How fast they are is not tested."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from benchmarks import bench_running, memory, run_contenders, running
from benchmarks.grid import OUTPUT_AXES, Problem
from benchmarks.run_contenders import CONTENDERS, EVALUATE, FILES, FOLDERS, RUN, TO_ZARR, Case, Hands
from benchmarks.running import OUTPUTS, Figure, Row, check, cut, figures, measure, of_size
from servegrid import planning
from servegrid.crews import crew
from servegrid.kernel import CACHE_VARIABLE

THREE = ("throughput", "itl", "speedup_vs_static")


@pytest.fixture(autouse=True)
def same_cache(kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks choose a cache of their own; the next test shall find the session's."""
    monkeypatch.setenv(CACHE_VARIABLE, str(kernel_cache))


@pytest.fixture(scope="module", params=["threads", "workers"])
def hands(request: pytest.FixtureRequest) -> Iterator[Hands]:
    with crew(threads=2) if request.param == "threads" else crew(workers=2) as team:
        yield Hands(team)


@pytest.fixture
def case(hands: Hands) -> Iterator[Case]:
    with cut(of_size(1), hands, 50) as made:
        yield made


# --- the sweep and its cuts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 160_001, 8e6])
def test_a_sweep_has_at_least_the_points_asked_for(points: float) -> None:
    found = planning.make_plan(of_size(points)).points
    assert points <= found < points + 160_000


@pytest.mark.parametrize("chunks", [10, 1000, 10_000, 100_000])
def test_the_sweep_can_be_cut_into_exactly_the_numbers_of_chunks_that_are_measured(chunks: int) -> None:
    bounds = planning.SMALLEST_REGION, planning.LARGEST_REGION
    with crew(threads=2) as team, cut(of_size(8e6), Hands(team), chunks) as case:
        assert case.chunks == chunks
        assert len(case.plan.blocks) == chunks // 5
    assert bounds == (planning.SMALLEST_REGION, planning.LARGEST_REGION)


# --- the contenders -----------------------------------------------------------------------------------------------


def chunks_in(folder: Path, outputs: Iterable[str]) -> dict[str, bytes]:
    """The files of the chunks, as if all were kept in a folder for each axis."""
    files = (path for output in outputs for path in (folder / output / "c").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix().replace("-", "/"): path.read_bytes() for path in files}


def test_all_contenders_keep_the_same_bits(case: Case, tmp_path: Path) -> None:
    kept = {name: tmp_path / str(number) for number, name in enumerate(CONTENDERS)}
    done = {name: contender(case, kept[name]) for name, contender in CONTENDERS.items()}
    expected = case.plan.evaluator.grid()
    assert set(expected) == {*OUTPUTS, "feasible"}
    for name in (RUN, TO_ZARR):
        with xr.open_zarr(kept[name]) as stored:
            for output, values in expected.items():
                np.testing.assert_array_equal(stored[output].values, values)
                assert stored[output].encoding["chunks"] == case.plan.evaluator.outputs[output].shape(
                    case.plan.blocks.block
                )
    chunks = {name: chunks_in(kept[name], expected) for name in (RUN, FILES, FOLDERS, TO_ZARR)}
    assert len(chunks[RUN]) == done[FILES] == done[FOLDERS] == case.chunks == 50
    assert chunks[FILES] == chunks[FOLDERS] == chunks[TO_ZARR] == chunks[RUN]
    assert done[EVALUATE] == sum(values.size for values in expected.values())
    assert not kept[EVALUATE].exists()


def with_a_bit_changed(case: Case, folder: Path) -> None:
    run_contenders.folders(case, folder)
    chunk = next(path for path in (folder / "itl").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)


def without_a_chunk(case: Case, folder: Path) -> None:
    run_contenders.to_zarr(case, folder)
    max(
        (path for path in (folder / "itl" / "c").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    ).unlink()


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        (EVALUATE, lambda case, folder: 7, "evaluate: 7 numbers, expected "),
        (FILES, lambda case, folder: None, "files: 0 files, expected 10"),
        (FOLDERS, with_a_bit_changed, "is not as"),
        (TO_ZARR, without_a_chunk, "to_zarr: itl is not what was computed"),
    ],
)
def test_a_contender_that_keeps_something_else_is_noticed(
    name: str, broken: Callable[[Case, Path], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONTENDERS, name, broken)
    raises = pytest.raises(ArithmeticError, match=message)
    with crew(threads=2) as team, cut(of_size(1), Hands(team), 10) as case, raises:
        check(case)


# --- measuring ----------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The contenders that were called; they do nothing else."""
    called: list[str] = []

    def call(name: str) -> Callable[[Case, Path], object]:
        return lambda case, folder: called.append(name)

    for name in CONTENDERS:
        monkeypatch.setitem(CONTENDERS, name, call(name))
    return called


def test_everybody_is_measured_in_every_round(calls: list[str], tmp_path: Path) -> None:
    with crew(threads=1) as team, cut(of_size(1), Hands(team), 10) as case:
        rows = measure(case, 3, list(CONTENDERS), tmp_path)
    rounds = [calls[start : start + 5] for start in (0, 5, 10)]
    assert len(calls) == 15
    assert all(sorted(each) == sorted(CONTENDERS) for each in rounds)
    assert [row.contender for row in rows] == list(CONTENDERS)
    assert all(row.seconds > 0 and row.disk_bytes == 0 for row in rows)
    assert not list(tmp_path.iterdir())


def test_who_takes_long_has_one_turn(calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "ENOUGH", 0)
    with crew(threads=1) as team, cut(of_size(1), Hands(team), 10) as case:
        measure(case, 3, [RUN, FILES], tmp_path)
    assert sorted(calls) == [FILES, RUN]


def row(contender: str, seconds: float, hands: str = "2 threads") -> Row:
    return Row(contender, hands, points=1000, blocks=10, chunks=50, seconds=seconds, disk_bytes=0)


def test_the_overhead_is_what_a_run_adds_to_computing_in_parts_of_the_compressor_and_the_disk() -> None:
    found = figures([row(RUN, 3.5), row(EVALUATE, 1.0), row(FILES, 2.0), row(FOLDERS, 9.0), row(RUN, 7.0, "1 thread")])
    assert found == [Figure("2 threads", 50, 0.25)]
    assert found[0].is_met
    assert not Figure("2 threads", 50, 0.26).is_met


def test_a_row_tells_rates_and_prices() -> None:
    assert row(RUN, 0.5).figures["points_per_second"] == 2000
    assert row(RUN, 0.5).figures["ms_per_block"] == 50
    assert row(RUN, 0.5).figures["ms_per_chunk"] == 10


def test_running_reports_figures_as_a_table_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    few = ["--points", "1", "--chunks", "10", "--chunks", "50", "--workers", "2", "--rounds", "1"]
    arguments = [*few, "--skip", "to_zarr, 2 processes", "--skip", "50 chunks", "--json", str(file)]
    done = CliRunner().invoke(running.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    written = json.loads(file.read_text())
    expected = {*product(CONTENDERS, ["2 threads", "2 processes"])} - {(TO_ZARR, "2 processes")}
    assert {(row["contender"], row["hands"]) for row in written["rows"]} == expected
    for one in written["rows"]:
        assert (one["points"], one["blocks"], one["chunks"]) == (160_000, 2, 10)
        assert one["points_per_second"] == pytest.approx(one["points"] / one["seconds"])
        assert (one["disk_bytes"] > 0) == (one["contender"] != EVALUATE)
        assert f"{one['seconds']:.3f}" in done.output
    seconds = {(row["contender"], row["hands"]): row["seconds"] for row in written["rows"]}
    assert [figure["hands"] for figure in written["figures"]] == ["2 threads", "2 processes"]
    for figure in written["figures"]:
        run, evaluate, files = (seconds[name, figure["hands"]] for name in (RUN, EVALUATE, FILES))
        assert figure["overhead"] == pytest.approx((run - evaluate) / files - 1)
        assert figure["met"] == (figure["overhead"] <= 0.25)
        assert f"{figure['overhead']:+,.0%}" in done.output


def test_running_benchmarks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for chunks, kind in ((10, "threads"), (10, "workers")):
        benchmark = bench_running.Running()
        benchmark.setup(chunks, kind)
        assert benchmark.case.chunks == chunks
        assert benchmark.case.hands.crew.size == 2
        assert benchmark.track_overhead(chunks, kind) > -1
        benchmark.teardown(chunks, kind)
        assert not benchmark.folder.exists()


# --- memory of worker processes -----------------------------------------------------------------------------------


def test_axes_that_no_output_has_are_left_out() -> None:
    problem = memory.of_size(1e9, THREE)
    assert list(problem.axes) == list(OUTPUT_AXES["itl"])
    assert all(problem.shape(name) == tuple(problem.sizes.values()) for name in THREE)
    assert 1e9 <= problem.points < 1e9 + 2**18


def test_the_peak_of_each_worker_process_is_measured(tmp_path: Path) -> None:
    problem = memory.of_size(1, THREE)
    words = {"outputs": list(THREE), "dtype": "float32"}
    usage = memory.run(problem, "384MiB", tmp_path, ["--workers", "2"], words)
    assert len(usage.worker_peaks) == 2
    assert all(2**25 < peak < 2**30 for peak in (usage.peak_bytes, *usage.worker_peaks))
    with xr.open_zarr(tmp_path / "sweep.zarr") as stored:
        assert all(stored[name].shape == tuple(problem.sizes.values()) for name in THREE)
        assert all(stored[name].dtype == np.float32 for name in THREE)


def test_memory_of_workers_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def run(problem: Problem, limit: str, folder: Path, options: Sequence[str], words: dict[str, Any]) -> memory.Usage:
        asked.update(options=options, words=words, points=problem.points)
        return memory.Usage(2.0, 2**29, 10**9, (2**30, 3 * 2**29))

    monkeypatch.setattr(memory, "run", run)
    outputs = [word for name in THREE for word in ("--output", name)]
    arguments = ["--points", "1e6", "--memory", "2GiB", "--workers", "2", "--dtype", "float32", *outputs]
    done = CliRunner().invoke(memory.main, [*arguments, "--", "--overwrite"], catch_exceptions=False)
    assert asked["options"] == ("--workers", "2", "--overwrite")
    assert asked["words"] == {"outputs": list(THREE), "dtype": "float32"}
    assert asked["points"] >= 1e6
    assert "peak 0.50 GiB (0.25 of the budget), of the worker processes 1.00 GiB (0.50 of the budget)" in done.output
    assert "and 1.50 GiB (0.75 of the budget), 2 s, 1 Mpoint/s, 1.00 GB on disk" in done.output
