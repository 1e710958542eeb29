"""The benchmarks, on a tiny grid: all contenders compute the same numbers. How fast they are is not tested."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import ceil, floor, inf, isnan, nan, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner

from benchmarks import bench_command, bench_compile, bench_evaluate, bench_store, memory, peers, with_numpy
from benchmarks.contenders import CONTENDERS, REFERENCE, TOLERANCE, check, difference, disagreement
from benchmarks.grid import FULL, OUTPUT_AXES, OUTPUTS, TINY, Problem, aligned
from benchmarks.measure import best_seconds, in_child, peak_resident
from benchmarks.rows import Figure, Row
from servegrid.catalog import Catalog
from servegrid.kernel import CACHE_VARIABLE

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def same_cache(kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks choose a cache of their own; the next test shall find the session's."""
    monkeypatch.setenv(CACHE_VARIABLE, str(kernel_cache))


# --- the problem --------------------------------------------------------------------------------------------------


def test_the_grid_has_67_million_points_and_604_megabytes_of_results() -> None:
    assert tuple(FULL.sizes.values()) == (16, 16, 4, 32, 8, 4, 64)
    assert FULL.points == 67_108_864
    assert sum(8 * prod(FULL.shape(name)) for name in OUTPUTS) == 603_981_824


def by_hand(point: Mapping[str, Any]) -> dict[str, float]:
    """Section by section what Kwon et al. and ORCA say, for one point, in plain Python."""
    catalog = Catalog.default()
    model, device = catalog.model(point["model"]).architecture, catalog.accelerator(point["hardware"])
    form = catalog.precision(point["precision"])
    weights = model.parameters * form.number_bytes
    tokens = point["page_size"] * ceil(point["seq_len"] / point["page_size"])
    request = 2 * model.attention_layers * model.kv_heads * model.head_dim * form.number_bytes * tokens
    n = min(point["max_batch_size"], max(0, floor((device.memory_capacity - weights) / request)))
    attention = 4 * model.attention_layers * model.heads * model.head_dim * point["seq_len"] ** 2
    prefill = (2 * model.active_parameters * point["seq_len"] + attention) * point["max_batch_size"]
    step = (weights + n * request) / device.memory_bandwidth
    static = max(1, floor(0.6 * n))
    static_step = (weights + static * request) / device.memory_bandwidth
    return {
        "throughput": n / step,
        "ttft": prefill / (form.peak_flops(device) * point["efficiency"]) + 1e-5,
        "itl": step if n else nan,
        "max_active_requests": n,
        "kv_fragmentation": (tokens - point["seq_len"]) / tokens,
        "speedup_vs_static": (n / step) / (static / static_step) if n else nan,
    }


def test_servegrid_agrees_with_one_point_at_a_time_by_hand() -> None:
    found = CONTENDERS[REFERENCE].prepare(TINY, TINY.allocate())()
    places = TINY.sample(200)
    for index in range(200):
        place = {axis: int(places[axis][index]) for axis in TINY.axes}
        expected = by_hand({axis: values[place[axis]] for axis, values in TINY.axes.items()})
        for name in OUTPUTS:
            value = found[name][tuple(place[axis] for axis in OUTPUT_AXES[name])]
            assert value == pytest.approx(expected[name], rel=1e-12, nan_ok=True), (name, place)


@pytest.mark.parametrize("problem", [FULL, TINY], ids=["full", "tiny"])
def test_some_models_fit_and_some_do_not(problem: Problem) -> None:
    facts = problem.facts
    fits = facts["parameters"] * facts["bytes_per_element"] < facts["hbm_capacity"]
    assert 0.2 < fits.mean() < 0.9
    assert (facts["active_parameters"] < facts["parameters"]).any()
    assert (facts["active_parameters"] == facts["parameters"]).any()


def test_arrays_begin_at_a_cache_line() -> None:
    for size in (1, 3, 1000, 10**6):
        array = aligned((size, 2), np.int64)
        assert array.ctypes.data % 64 == 0
        assert array.shape == (size, 2)
        assert array.dtype == np.int64


# --- the contenders -----------------------------------------------------------------------------------------------

COMPUTING = [name for name, contender in CONTENDERS.items() if contender.module != "with_fill"]


@pytest.mark.parametrize("name", COMPUTING)
def test_a_contender_computes_what_servegrid_computes(name: str) -> None:
    found = disagreement(TINY, CONTENDERS[name])
    assert set(found) == set(OUTPUTS)
    assert max(found.values()) <= TOLERANCE


def test_what_a_contender_does_not_compute_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(with_numpy, "fill", lambda *arguments: None)
    found = disagreement(TINY, CONTENDERS["numpy, tuned, warm"])
    assert found["itl"] == inf
    assert found["ttft"] > 1
    with pytest.raises(ArithmeticError, match=r"numpy, tuned, warm: throughput differs by .*, expected 1e-09"):
        check(TINY, {"numpy, tuned, warm": CONTENDERS["numpy, tuned, warm"]})


@pytest.mark.parametrize(
    ("found", "expected", "relative"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([nan, 2.0], [nan, 2.0], 0.0),
        ([nan, 2.0], [1.0, 2.0], inf),
        ([1.0, 2.0], [nan, 2.0], inf),
        ([0.5, 0.0], [0.0, 0.0], 0.5),
        ([inf, 1.0], [1.0, 1.0], inf),
    ],
)
def test_difference(found: list[float], expected: list[float], relative: float) -> None:
    assert difference(np.array(found), np.array(expected)) == pytest.approx(relative)


def test_fill_fills_every_array() -> None:
    for threads in (1, 2):
        arrays = TINY.allocate()
        replace(CONTENDERS["ndarray.fill, warm, 2 threads"], threads=threads).prepare(TINY, arrays)()
        assert all((array == 1).all() for array in arrays.values())


# --- measuring ----------------------------------------------------------------------------------------------------


def test_in_every_round_each_has_two_calls_in_another_order() -> None:
    calls: list[str] = []
    best = best_seconds({name: partial(calls.append, name) for name in "abc"}, rounds=20)
    assert "".join(calls[:3]) == "abc"
    rounds = ["".join(calls[start : start + 6]) for start in range(3, len(calls), 6)]
    assert len(rounds) == 20
    assert all(sorted(each[::2]) == ["a", "b", "c"] and each[::2] == each[1::2] for each in rounds)
    assert len(set(rounds)) > 1
    assert set(best) == {"a", "b", "c"}
    assert all(0 <= seconds < inf for seconds in best.values())


def test_a_child_has_a_peak_of_its_own() -> None:
    held = np.ones(40_000_000)  # 320 MB here, none of which is the child's
    assert peak_resident() > held.nbytes
    assert 5_000_000 < in_child(peak_resident) < held.nbytes


def test_peers_reports_figures_as_a_table_and_as_json(tmp_path: Path) -> None:
    few = ("numpy, as written", REFERENCE, "ndarray.fill, warm, 1 thread")
    file = tmp_path / "figures.json"
    only = [argument for name in few for argument in ("--only", name)]
    arguments = ["--tiny", "--rounds", "1", "--json", str(file), *only]
    done = CliRunner().invoke(peers.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert all(name in done.output for name in few)
    written = json.loads(file.read_text())
    rows = {row["name"]: row for row in written["rows"]}
    assert set(rows) == set(few)
    assert rows[REFERENCE]["written"] == sum(array.nbytes for array in TINY.allocate().values())
    for figure in written["figures"]:
        rival = max(rows[name]["points_per_second"] for name in figure["against"] if name in rows)
        assert figure["ratio"] == pytest.approx(rows[figure["contender"]]["points_per_second"] / rival)
        assert figure["met"] == (figure["ratio"] >= figure["target"])


def test_a_figure_compares_with_the_fastest_rival() -> None:
    seconds = {"servegrid": 1.0, "slow": 8.0, "quick": 4.0}
    rows = {name: Row(name, 100, spent, 0, 0.0, 0) for name, spent in seconds.items()}
    assert Figure("", "servegrid", ("slow", "quick"), 6).ratio(rows) == 4.0
    assert Figure("", "servegrid", ("slow", "missing"), 6).ratio(rows) == 8.0
    assert Figure("", "servegrid", ("missing",), 6).ratio(rows) is None


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 2**20, 2**20 + 1, 1e9])
def test_a_problem_has_at_least_the_points_asked_for(points: float) -> None:
    size = memory.of_size(points).points
    assert points <= size < points + 2**20


def test_a_run_of_the_command_is_measured(tmp_path: Path) -> None:
    problem = memory.of_size(1)
    usage = memory.run(problem, "384MiB", tmp_path)
    assert 2**25 < usage.peak_bytes < 2**30
    with xr.open_zarr(tmp_path / "sweep.zarr") as stored:
        expected = CONTENDERS["numpy, tuned"].prepare(problem, {})()
        for name in OUTPUTS:
            np.testing.assert_allclose(stored[name].values, expected[name], rtol=TOLERANCE)
        assert usage.disk_bytes < sum(values.nbytes for values in expected.values())
    assert list(stored[name].dims) == list(OUTPUT_AXES[name])


# --- asv ----------------------------------------------------------------------------------------------------------


def test_asv_finds_the_benchmarks() -> None:
    settings = json.loads((ROOT / "asv.conf.json").read_text())
    found = {path.stem for path in (ROOT / settings["benchmark_dir"]).glob("bench_*.py")}
    assert found == {
        "bench_command",
        "bench_compile",
        "bench_evaluate",
        "bench_questions",
        "bench_running",
        "bench_store",
    }


def test_evaluation_benchmarks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_evaluate, "PROBLEMS", {"continuous_batching": TINY})
    benchmark = bench_evaluate.Evaluate()
    benchmark.setup("continuous_batching", 2)
    expected = {name: values.copy() for name, values in benchmark.arrays.items()}
    for values in benchmark.arrays.values():
        values.fill(7)
    benchmark.time_warm("continuous_batching", 2)
    benchmark.time_cold("continuous_batching", 2)
    benchmark.time_in_cache("continuous_batching", 2)
    benchmark.teardown("continuous_batching", 2)
    for name, values in benchmark.arrays.items():
        np.testing.assert_array_equal(values, expected[name])


def test_store_benchmarks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_store.Store, "problem", TINY)
    benchmark = bench_store.Store()
    benchmark.setup()
    assert not benchmark.store.exists()  # what is finished already is not computed again
    benchmark.time_run()
    with xr.open_zarr(benchmark.store) as stored:
        assert dict(stored.sizes) == TINY.sizes
    benchmark.teardown()
    assert not benchmark.store.exists()


def test_compile_benchmarks_run() -> None:
    benchmark = bench_compile.Compile()
    benchmark.setup()
    cold = bench_compile.Compile.track_cold(benchmark)
    assert list(Path(benchmark.folder.name).glob("**/*.nbc"))
    cached = in_child(bench_compile.seconds_to_compile, benchmark.folder.name)
    benchmark.teardown()
    assert 0 < cached < cold


def test_command_benchmarks_run() -> None:
    assert "explain" in bench_command.command("--help")
    asked = yaml.safe_load(bench_command.QUICKSTART.read_text())
    for cache in bench_command.Quickstart.params:
        benchmark = bench_command.Quickstart()
        benchmark.setup(cache)
        assert not benchmark.store.exists()
        assert (Path(benchmark.made.name) / "cache").exists() == (cache == "warm")
        benchmark.time_run(cache)
        with xr.open_zarr(benchmark.store) as stored:
            assert list(stored.sizes) == list(asked["axes"])
            assert not isnan(float(stored["throughput"].max()))
        benchmark.teardown(cache)
