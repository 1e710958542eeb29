"""Evaluation: the same bits however the grid is cut, each quantity along its own axes, from every kind of input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import InputError, evaluate
from servegrid.api import load
from servegrid.catalog import Catalog
from servegrid.evaluate import Evaluator, prepare
from servegrid.parameters import gather

POINT = {"model": "opt-13b", "hardware": "a100-40gb", "precision": "fp16", "seq_len": 1000}

# Each example is a whole sweep: what fails is small enough without shrinking.
LEAN = settings(max_examples=20, phases=(Phase.explicit, Phase.generate))

# With functions that a vector unit has variants of, and a flag.
DERIVED: dict[str, Any] = {
    "derive": {"score": "log(throughput * itl + 1) ** 1.5 / sqrt(ttft)", "waste": "kv_fragmentation * 100"},
    "where": "itl <= 0.05 and (ttft < 1 or not feasible)",
}


def _assert_same_bits(one: xr.Dataset, other: xr.Dataset) -> None:
    """Same variables, axes, labels, types and bits, also of NaN; the order of the axes may differ."""
    assert set(one.variables) == set(other.variables)
    for name, variable in other.variables.items():
        found = one.variables[name].transpose(*variable.dims)
        assert found.dtype == variable.dtype, name
        assert np.asarray(found.values, order="C").tobytes() == variable.values.tobytes(), name
        assert found.attrs == variable.attrs, name


@pytest.fixture(scope="module")
def grid() -> dict[str, Any]:
    """Keywords of a sweep whose sizes are no round numbers, so that vectors have remainders."""
    return {
        "axes": {
            "model": ["llama-3.1-8b", "llama-3.1-70b", "opt-13b"],
            "hardware": ["h100-sxm", "mi300x", "l4"],
            "seq_len": [1000, 8192, 131072, 7, 33],
            "max_batch_size": [1, 7, 64],
            "page_size": [1, 8, 16, 31, 32, 64, 100, 128, 256, 300, 512],
        },
        "values": {"precision": "fp16", "efficiency": 0.5},
    }


@pytest.fixture(scope="module")
def reference(grid: dict[str, Any]) -> xr.Dataset:
    return sg.sweep(**grid, **DERIVED)


@pytest.fixture(scope="module")
def evaluator(grid: dict[str, Any]) -> Evaluator:
    return prepare(gather(load(**grid, **DERIVED)))


# The same bits.


@LEAN
@given(data=st.data())
def test_lazy_chunks_of_any_size_have_the_same_bits(
    grid: dict[str, Any], reference: xr.Dataset, data: st.DataObject
) -> None:
    sizes = {name: len(values) for name, values in grid["axes"].items()}
    chosen = data.draw(st.lists(st.sampled_from(list(sizes)), unique=True), label="axes")
    chunks = {axis: data.draw(st.integers(1, sizes[axis] + 2), label=axis) for axis in chosen}
    chunked = sg.sweep(**grid, **DERIVED, chunks=chunks)
    for axis in chosen:
        assert chunked.throughput.chunksizes[axis][0] == min(chunks[axis], sizes[axis])
    _assert_same_bits(chunked.compute(scheduler="threads"), reference)


@LEAN
@given(tile_bytes=st.integers(0, 200_000), threads=st.integers(1, 4))
def test_tiles_of_any_size_on_any_threads_have_the_same_bits(
    grid: dict[str, Any], reference: xr.Dataset, tile_bytes: int, threads: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "TILE_BYTES", tile_bytes)
        _assert_same_bits(sg.sweep(**grid, **DERIVED, threads=threads), reference)


@pytest.mark.parametrize(
    "order",
    [
        ("page_size", "max_batch_size", "seq_len", "hardware", "model"),
        ("hardware", "page_size", "model", "max_batch_size", "seq_len"),
    ],
)
def test_any_order_of_axes_has_the_same_bits(
    order: tuple[str, ...], grid: dict[str, Any], reference: xr.Dataset
) -> None:
    axes = {name: grid["axes"][name] for name in order}
    transposed = sg.sweep(**grid | {"axes": axes}, **DERIVED)
    assert transposed.throughput.dims == order
    _assert_same_bits(transposed, reference)


def test_any_part_of_a_grid_has_the_same_bits(grid: dict[str, Any], reference: xr.Dataset) -> None:
    axes = {name: values[1:-1] or values[:1] for name, values in grid["axes"].items()}
    part = sg.sweep(**grid | {"axes": axes}, **DERIVED)
    xr.testing.assert_equal(part, reference.sel({name: part[name] for name in axes}))


def test_points_have_the_bits_of_the_grid(evaluator: Evaluator, reference: xr.Dataset) -> None:
    dice = np.random.default_rng(1)
    places = {axis: dice.integers(0, size, 20) for axis, size in evaluator.sizes.items()}
    found = evaluator.points(places)
    at = {axis: xr.DataArray(positions, dims="point") for axis, positions in places.items()}
    for name in evaluator.outputs:
        assert found[name].dtype == reference[name].dtype
        values = reference[name].isel({axis: at[str(axis)] for axis in reference[name].dims}).values
        assert found[name].tobytes() == np.broadcast_to(values, 20).tobytes(), name


@LEAN
@given(tile_bytes=st.integers(0, 100_000), threads=st.integers(1, 3))
def test_a_stream_gives_every_number_once(
    evaluator: Evaluator, reference: xr.Dataset, tile_bytes: int, threads: int
) -> None:
    seen: dict[str, list[np.ndarray]] = {name: [] for name in evaluator.outputs}

    def visit(tile: Any) -> None:
        for name, array in tile.items():
            seen[name].append(array.flatten())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "TILE_BYTES", tile_bytes)
        evaluator.stream(visit, threads)
    for name, parts in seen.items():
        expected = np.sort(reference[name].values, axis=None)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), expected, err_msg=name)


def test_arrays_of_an_earlier_call_are_filled_again(evaluator: Evaluator, reference: xr.Dataset) -> None:
    arrays = evaluator.grid()
    for array in arrays.values():
        array.fill(0)
    again = evaluator.grid(arrays=arrays)
    assert all(again[name] is array for name, array in arrays.items())
    for name, array in again.items():
        np.testing.assert_array_equal(array, reference[name], err_msg=name)


def test_outputs_without_an_array_are_left_out(evaluator: Evaluator, reference: xr.Dataset) -> None:
    ttft = np.full(reference.ttft.shape, -1.0)
    evaluator.fill(evaluator.whole, {"ttft": ttft})
    np.testing.assert_array_equal(ttft, reference.ttft)


# Laziness.


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("computed before it was asked for")


def test_nothing_is_computed_or_compiled_until_asked(
    small: dict[str, Any], small_dataset: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask.config.set(scheduler=_refuse), monkeypatch.context() as patch:
        patch.setattr(evaluate, "compile_program", _refuse)
        dataset = sg.sweep(**small, lazily=True)
        best = dataset.throughput.where(dataset.feasible).max("max_batch_size").sel(model="llama-3.1-8b")
        assert str(dataset)
        assert dataset.sizes == small_dataset.sizes
        with pytest.raises(AssertionError, match="computed before"):
            best.compute()
    _assert_same_bits(dataset.compute(), small_dataset)


def test_a_chunk_computes_no_other_chunk(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    regions = []
    compute = Evaluator.region

    def count(evaluator: Evaluator, region: Any) -> Any:
        regions.append(region)
        return compute(evaluator, region)

    monkeypatch.setattr(Evaluator, "region", count)
    dataset = sg.sweep(**small, chunks={"model": 1, "hardware": 1})
    dataset.throughput.sel(model="llama-3.1-70b", hardware="mi300x").compute(scheduler="synchronous")
    assert [(region["model"], region["hardware"]) for region in regions] == [(slice(1, 2), slice(1, 2))]


def test_one_task_for_each_chunk_and_one_for_each_part(small: dict[str, Any]) -> None:
    dataset = sg.sweep(**small, chunks={"model": 1, "seq_len": 2})
    chunks = 2 * 2
    parts = sum(array.data.npartitions for array in dataset.data_vars.values())
    assert parts == 6 * chunks + 2  # kv_fragmentation has no model
    graph = dataset.__dask_graph__()
    assert len(graph) == chunks + parts


def test_large_grids_are_cut_without_being_asked() -> None:
    axes = {"model": ["opt-13b", "llama-3.1-8b"], "seq_len": range(1, 4001), "max_batch_size": range(1, 4001)}
    values = {"hardware": "h100-sxm", "precision": "fp16"}
    dataset = sg.sweep(axes=axes, values=values, outputs=["throughput", "itl"], lazily=True)
    assert dataset.sizes == {"model": 2, "seq_len": 4000, "max_batch_size": 4000}
    assert dataset.throughput.chunksizes["max_batch_size"] == (4000,)
    largest = max(dataset.throughput.chunksizes["seq_len"])
    bytes_per_row = 4000 * (8 + 8 + 1)
    assert 64 * 2**20 - bytes_per_row < largest * bytes_per_row <= 64 * 2**20
    point = dataset.isel(model=1, seq_len=2345, max_batch_size=17)
    alone = sg.sweep(values={**values, "model": "llama-3.1-8b", "seq_len": 2346, "max_batch_size": 18})
    assert point.throughput.values == alone.throughput.values


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"chunks": {"modle": 1}}, "chunks: unknown axis 'modle' (did you mean model?), expected one of "),
        ({"chunks": {"model": 0}}, "chunks.model: got 0, expected a whole number, at least 1"),
        ({"chunks": {"model": -1}}, "chunks.model: got -1, expected a whole number, at least 1"),
        ({"chunks": {"model": "auto"}}, "chunks.model: got 'auto', expected a whole number, at least 1"),
        ({"threads": 0}, "threads: got 0, expected 1 or more"),
        ({"threads": -1}, "threads: got -1, expected 1 or more"),
    ],
)
def test_chunks_and_threads_that_cannot_be_are_refused(
    keywords: dict[str, Any], message: str, small: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as refusal:
        sg.sweep(**small, **keywords)
    assert str(refusal.value).startswith(message)


# Own axes.


def test_every_quantity_lies_along_its_own_axes(reference: xr.Dataset) -> None:
    dims = {name: variable.dims for name, variable in reference.data_vars.items()}
    everywhere = ("model", "hardware", "seq_len", "max_batch_size", "page_size")
    assert dims == {
        "throughput": everywhere,
        "ttft": ("model", "hardware", "seq_len", "max_batch_size"),
        "itl": everywhere,
        "max_active_requests": everywhere,
        "kv_fragmentation": ("seq_len", "page_size"),
        "speedup_vs_static": everywhere,
        "score": everywhere,
        "waste": ("seq_len", "page_size"),
        "selected": everywhere,
        "feasible": everywhere,
    }


def test_every_point_is_that_of_a_sweep_of_one_point(reference: xr.Dataset) -> None:
    model = sg.ContinuousBatchingModel()
    for where in ({"model": 0, "hardware": 0}, {"model": 1, "hardware": 1}, {"model": 2, "hardware": 2}):
        row = reference.isel({**where, "seq_len": 2, "max_batch_size": 2, "page_size": 4})
        one = model.solve(
            str(row.model.item()),
            str(row.hardware.item()),
            seq_len=row.seq_len.item(),
            max_batch_size=row.max_batch_size.item(),
            page_size=row.page_size.item(),
        )
        assert one.feasible == row.feasible.item()
        np.testing.assert_array_equal(one.throughput_tokens_per_sec, row.throughput)
        np.testing.assert_array_equal(one.itl, row.itl)
        np.testing.assert_array_equal(one.ttft, row.ttft)


# What a sweep can be made of.


def test_a_sweep_without_axes_is_a_point() -> None:
    dataset = sg.sweep(values=POINT)
    assert dict(dataset.sizes) == {}
    assert dataset.throughput.item() == 1 / dataset.itl.item()
    _assert_same_bits(sg.sweep(values=POINT, lazily=True).compute(), dataset)


def test_outputs_may_be_inputs(small: dict[str, Any]) -> None:
    outputs = ["hbm_bandwidth", "peak_flops", "efficiency", "layers", "weight_bytes"]
    dataset = sg.sweep(**small, outputs=outputs)
    catalog = Catalog.default()
    for hardware in small["axes"]["hardware"]:
        device = catalog.accelerator(hardware)
        assert dataset.hbm_bandwidth.sel(hardware=hardware) == device.memory_bandwidth
        for precision in small["axes"]["precision"]:
            peak = dataset.peak_flops.sel(hardware=hardware, precision=precision)
            assert peak == catalog.precision(precision).peak_flops(device)
    assert dataset.efficiency.item() == 0.5
    assert dataset.layers.dtype == np.int64
    assert set(outputs) <= set(dataset.variables)
    _assert_same_bits(sg.sweep(**small, outputs=outputs, lazily=True).compute(), dataset)


def test_derived_quantities_build_on_one_another() -> None:
    dataset = sg.sweep(
        axes={"max_batch_size": [1, 8, 64]},
        values=POINT,
        derive={
            "per_request": "throughput / max_active_requests",  # itself an output of the sweep
            "check": "per_request * itl - 1",
            "good": {"expression": "check < 1e-12 and later > 0", "long_name": "whether all is well"},
            "later": "twice / 2",
            "twice": "2 * check + 2",
        },
        where="good and itl < 1",
        outputs=["itl"],
    )
    np.testing.assert_allclose(dataset.per_request, 1 / dataset.itl, rtol=1e-15)
    np.testing.assert_allclose(dataset.later, dataset.check + 1, rtol=1e-15)
    assert dataset.good.dtype == bool
    assert dataset.good.values.all()
    assert dataset.good.attrs["long_name"] == "whether all is well"
    np.testing.assert_array_equal(dataset.selected, dataset.good)


def test_a_derived_quantity_may_replace_an_equation() -> None:
    keywords: dict[str, Any] = {"axes": {"max_batch_size": [1, 8]}, "values": POINT}
    dataset = sg.sweep(**keywords, derive={"itl": "ttft * 0 + 0.02"})
    np.testing.assert_array_equal(dataset.throughput, dataset.max_active_requests / 0.02)
    with pytest.raises(InputError) as refusal:
        sg.sweep(**keywords, derive={"itl": "0.02 * max_active_requests"})
    assert str(refusal.value) == "derive.itl: got the unit 's', expected request"


def test_where_flags_and_drops_nothing(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    dataset = sg.sweep(**small, where="ttft <= 2 and itl <= 0.05")
    xr.testing.assert_equal(dataset.drop_vars("selected"), small_dataset)
    expected = (small_dataset.ttft <= 2) & (small_dataset.itl <= 0.05)
    np.testing.assert_array_equal(dataset.selected, expected.transpose(*dataset.selected.dims))
    assert 0 < dataset.selected.mean() < 1


TABLE = """\
# measured elsewhere
model, hardware, precision, seq_len, max_batch_size, measured, engine
llama-3.1-8b, h100-sxm, fp16, 1000, 8, 0.0051, a
LLAMA-3.1-70B, mi300x, int4, 8192, 1, 0.0072, b
opt-13b, a100-40gb, fp16, 512, 64, , a
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "measured.csv"
    path.write_text(TABLE)
    return path


def test_cases_are_rows_of_a_table(table: Path) -> None:
    dataset = sg.sweep(cases={"file": str(table), "keep": ["measured", "engine"]}, outputs=["itl", "ttft"])
    assert dataset.itl.dims == ("case",)
    assert dataset.model.values.tolist() == ["llama-3.1-8b", "llama-3.1-70b", "opt-13b"]
    assert dataset.seq_len.dtype == np.int64
    np.testing.assert_array_equal(dataset.measured, [0.0051, 0.0072, np.nan])
    assert dataset.engine.values.tolist() == ["a", "b", "a"]
    for row in range(3):
        point = {
            name: dataset[name].values[row].item()
            for name in ("model", "hardware", "precision", "seq_len", "max_batch_size")
        }
        alone = sg.sweep(values=point, outputs=["itl", "ttft"])
        assert dataset.itl.values[row] == alone.itl.values
        assert dataset.ttft.values[row] == alone.ttft.values


def test_a_data_frame_is_a_table_as_well(table: Path) -> None:
    frame = pd.read_csv(table, comment="#", skipinitialspace=True).drop(columns=["measured", "engine"])
    from_file = sg.sweep(cases={"file": table, "keep": ["measured", "engine"]})
    _assert_same_bits(sg.sweep(cases=frame), from_file.drop_vars(["measured", "engine"]))


def test_cases_may_be_crossed_with_axes_and_named(table: Path) -> None:
    frame = pd.DataFrame({"case": ["short", "long"], "seq_len": [100, 10_000]})
    values = {"model": "opt-13b", "hardware": "h100-sxm", "precision": "fp16"}
    dataset = sg.sweep(cases=frame, axes={"max_batch_size": [1, 2]}, values=values, outputs=["throughput"])
    assert dict(dataset.sizes) == {"case": 2, "max_batch_size": 2}
    assert dataset.case.values.tolist() == ["short", "long"]
    alone = sg.sweep(values={**values, "seq_len": 10_000, "max_batch_size": 2})
    assert dataset.throughput.sel(case="long", max_batch_size=2) == alone.throughput


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"seq_len": []}), "cases: the table has no rows, expected one or more"),
        (
            pd.DataFrame({"seq_len": [100, -3]}),
            "cases, row 1, seq_len: got -3, expected a whole number in token, at least 1",
        ),
        (
            pd.DataFrame({"seq_len": [100], "prompt": [3]}),
            "cases: the column 'prompt' is no quantity of the solver continuous_batching; "
            "list it under 'keep' to carry it along",
        ),
        (
            pd.DataFrame({"seq_len": [100], "modell": ["opt-13b"]}),
            "cases: the column 'modell' is no quantity of the solver continuous_batching (did you mean model?); "
            "list it under 'keep' to carry it along",
        ),
        (
            pd.DataFrame({"case": ["a", "a"], "seq_len": [1, 2]}),
            "cases, column case: 'a' stands twice, expected each value once",
        ),
    ],
)
def test_tables_that_cannot_be_are_refused(frame: pd.DataFrame, message: str) -> None:
    values = {"model": "opt-13b", "hardware": "h100-sxm", "precision": "fp16"}
    with pytest.raises(InputError) as refusal:
        sg.sweep(cases=frame, values=values)
    assert str(refusal.value) == message


def _nested() -> dict[str, Any]:
    return {
        "model": {
            "opt-13b": {"precision": {"fp16": 0.3, "int4": 0.2}},
            "llama-3.1-8b": {"precision": {"int4": 0.4, "fp16": 0.5}},
        }
    }


def _labelled() -> xr.DataArray:
    return xr.DataArray(
        [[0.4, 0.2], [0.5, 0.3]],
        dims=("precision", "model"),
        coords={"precision": ["int4", "fp16"], "model": ["llama-3.1-8b", "opt-13b"]},
    )


@pytest.mark.parametrize("table", [_nested, _labelled])
def test_a_value_may_be_a_table_over_axes(table: Callable[[], Any]) -> None:
    """Labels decide, never the order in which they are written."""
    dataset = sg.sweep(
        axes={"model": ["opt-13b", "llama-3.1-8b"], "precision": ["fp16", "int4"]},
        values={"hardware": "h100-sxm", "seq_len": 1000, "efficiency": table()},
        outputs=["ttft", "efficiency", "prefill_flops", "peak_flops"],
    )
    assert dataset.efficiency.dims == ("model", "precision")
    efficiency = xr.DataArray([[0.3, 0.2], [0.5, 0.4]], dims=("model", "precision"))
    np.testing.assert_array_equal(dataset.efficiency, efficiency)
    np.testing.assert_allclose(
        dataset.ttft, (dataset.prefill_flops / (dataset.peak_flops * efficiency) + 1e-5).transpose(*dataset.ttft.dims)
    )


def test_a_label_of_ones_own_may_be_an_axis() -> None:
    dataset = sg.sweep(
        axes={"provider": ["cheap", "dear"]},
        values={**POINT, "price_per_hour": {"provider": {"dear": "4 USD/h", "cheap": "50 USD/day"}}},
        outputs=["cost_per_million_tokens"],
    )
    cheap, dear = (dataset.cost_per_million_tokens.sel(provider=name) for name in ("cheap", "dear"))
    assert (dear / cheap).item() == pytest.approx(4 / (50 / 24), rel=1e-15)


@pytest.mark.parametrize(
    ("name", "axis", "expected"),
    [
        ("hbm_bandwidth", {"from": "2 TB/s", "to": "16 TB/s", "num": 8}, np.linspace(2e12, 16e12, 8)),
        ("hbm_capacity", ["40 GiB", "80 GB", 1e11], [40 * 2**30, 80e9, 1e11]),
        ("peak_flops", {"from": 1e14, "to": 1e15, "num": 3, "spacing": "log"}, np.geomspace(1e14, 1e15, 3)),
        ("parameters", [7e9, 13e9], [7e9, 13e9]),
        ("kv_heads", [1, 5, 40], [1, 5, 40]),
        ("bytes_per_element", [0.5, 1, 2], [0.5, 1, 2]),
        ("efficiency", {"from": 0.25, "to": 1, "step": 0.25}, [0.25, 0.5, 0.75, 1]),
        ("dispatch_time", ["0 s", "10 us"], [0, 1e-5]),
        ("price_per_hour", [1.5, "48 USD/day"], [1.5, 2]),
        ("seq_len", {"from": 1024, "to": 4096, "num": 3, "spacing": "log"}, [1024, 2048, 4096]),
        ("page_size", range(1, 4), [1, 2, 3]),
        ("max_batch_size", np.array([1, 2, 4]), [1, 2, 4]),
        ("kv_budget", ["1 GB", "2 GB"], [1e9, 2e9]),  # an equation gives it otherwise
        ("itl", [0.01, 0.02], [0.01, 0.02]),
    ],
)
def test_any_input_may_be_an_axis(name: str, axis: Any, expected: Any) -> None:
    values = {key: value for key, value in POINT.items() if key != name}
    outputs = [output for output in ("throughput", "ttft", "itl", "cost_per_million_tokens") if output != name]
    dataset = sg.sweep(axes={name: axis}, values=values, outputs=outputs)
    np.testing.assert_allclose(dataset[name], expected, rtol=1e-15)
    for index, value in enumerate(expected):
        alone = sg.sweep(values={**values, name: float(value)}, outputs=outputs)
        for output in outputs:
            one = dataset[output].isel({name: index}) if name in dataset[output].dims else dataset[output]
            np.testing.assert_array_equal(one, alone[output], err_msg=output)


def test_a_missing_price_is_nan_and_hurts_nothing_else() -> None:
    catalog = Catalog.default()
    lacking = next(name for name, device in catalog.accelerators.items() if device.price_per_hour is None)
    dataset = sg.sweep(
        axes={"hardware": [lacking, "h100-sxm"]},
        values={"model": "opt-13b", "precision": "int4", "seq_len": 100},
        outputs=["cost_per_million_tokens", "ttft"],
        where="cost_per_million_tokens < 1e9",
    )
    np.testing.assert_array_equal(np.isnan(dataset.cost_per_million_tokens), [True, False])
    np.testing.assert_array_equal(dataset.selected, [False, True])
    assert dataset.ttft.notnull().all()


def test_a_sweep_file_and_keywords_are_the_same(tmp_path: Path, small: dict[str, Any]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**small, **DERIVED}, sort_keys=False))
    _assert_same_bits(sg.sweep(path), sg.sweep(**small, **DERIVED))


def test_a_file_and_keywords_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError) as refusal:
        sg.sweep(tmp_path / "mine.yaml", where="itl < 1")
    assert str(refusal.value).startswith("give a sweep file or keywords, not both (got ")


def test_numbers_of_the_users_own_may_be_axes_and_values_of_expressions() -> None:
    found = sg.sweep(
        axes={"discount": [0.5, 0.9], "hardware": ["h100-sxm", "h200"]},
        values={"model": "llama-3.1-8b", "precision": "fp16", "seq_len": 100, "gpus": 8},
        derive={"price": "price_per_hour * discount * gpus"},
        outputs=["itl"],
    )
    np.testing.assert_allclose(found.price, found.discount * found.price_per_hour * 8, rtol=1e-15)
    assert found.price.dims == ("discount", "hardware")
    assert found.itl.dims == ("hardware",)


def test_results_larger_than_the_machine_are_refused_before_they_are_allocated() -> None:
    with pytest.raises(sg.MachineError, match=r"^the results take .* more than this machine's memory of .*lazily"):
        sg.sweep(
            axes={"seq_len": range(1, 200_001), "max_batch_size": range(1, 100_001), "page_size": [1, 2, 4, 8]},
            values={"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp16"},
        )


# Single precision.


def test_single_precision_is_the_double_result_rounded_whatever_depends_on_it(tmp_path: Path) -> None:
    sweep: dict[str, Any] = {
        "axes": {
            "model": ["llama-3.1-8b", "qwen3-32b"],
            "hardware": ["h100-sxm", "l4"],
            "seq_len": {"from": 1000, "to": 50000, "num": 50},
            "max_batch_size": [1, 4, 100],
            "page_size": [1, 16, 100],
        },
        "values": {"precision": "fp16"},
        # Outputs that others are computed from, over fewer axes: these must not be rounded on the way.
        "derive": {"whole": "kv_fragmentation * 2 + throughput * itl"},
        "outputs": [
            "throughput",
            "itl",
            "ttft",
            "kv_fragmentation",
            "kv_bytes_per_request",
            "feasible",
            "hbm_bandwidth",
        ],
    }
    double = sg.sweep(**sweep)
    for single in (
        sg.sweep(**sweep, dtype="float32"),
        sg.sweep(**sweep, dtype="float32", chunks={"model": 1, "seq_len": 7}),
        sg.run(**sweep, dtype="float32", out=tmp_path / "o.zarr"),
    ):
        for name, expected in double.data_vars.items():
            dtype = np.float32 if expected.dtype == np.float64 else expected.dtype
            assert single[name].dtype == dtype, name
            assert single[name].values.tobytes() == expected.values.astype(dtype).tobytes(), name
