"""What changed between two sweeps: counted by plain numpy beside it, whatever the order, the chunks and the place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from dask.local import get_sync
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import servegrid as sg
from servegrid.cli import main
from servegrid.comparison import alignment
from servegrid.comparison.changes import Change, Comparison
from servegrid.comparison.difference import PART, Point, Spread, differ
from servegrid.results import FINGERPRINT

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")


def variable(found: Comparison, name: str) -> Change:
    (change,) = [change for change in found.variables if change.name == name]
    return change


def other_values(sweep: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**sweep, "values": {**sweep["values"], **values}}


def counted(one: np.ndarray, other: np.ndarray) -> dict[str, int]:
    """The counts of a comparison by plain Python, point by point."""
    found = dict.fromkeys(("changed", "appeared", "vanished", "higher", "lower"), 0)
    for before, after in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
        if before == after or (before != before and after != after):
            continue
        found["changed"] += 1
        was, is_now = (bool(value) and value == value for value in (before, after))
        found["appeared"] += is_now and not was
        found["vanished"] += was and not is_now
        found["higher"] += was and is_now and after > before
        found["lower"] += was and is_now and after < before
    return found


def counts(change: Any) -> dict[str, int]:
    return {key: getattr(change, key) for key in ("changed", "appeared", "vanished", "higher", "lower")}


# Arrays.

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -2.0, 3.5, 1e-300, float("nan"), float("inf")])
PAIRS = st.integers(1, 40).flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=NUMBERS)] * 2))


@given(PAIRS)
def test_points_are_counted_as_one_by_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert counts(differ(*pair)) == counted(*pair)


def moved(point: Point | None, by: int) -> Point | None:
    return None if point is None else replace(point, place=point.place + by)


@given(PAIRS, st.data())
def test_parts_add_up_to_the_whole(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    one, other = pair
    cut = data.draw(st.integers(0, len(one)))
    first, second = differ(one[:cut], other[:cut]), differ(one[cut:], other[cut:])
    second = replace(second, first=moved(second.first, cut), largest=moved(second.largest, cut))
    whole = differ(one, other)
    for merged in (first.merged(second), second.merged(first)):
        assert repr(replace(merged, spread=Spread())) == repr(replace(whole, spread=Spread()))  # repr: NaN is NaN
        np.testing.assert_equal(merged.spread.median, whole.spread.median)


@given(PAIRS)
def test_the_other_way_round_counts_are_exchanged(pair: tuple[np.ndarray, np.ndarray]) -> None:
    there, back = differ(*pair), differ(*reversed(pair))
    assert there.changed == back.changed
    assert (there.appeared, there.higher) == (back.vanished, back.lower)
    assert (there.vanished, there.lower) == (back.appeared, back.higher)


@given(hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e300, 1e300)))
def test_the_median_is_that_of_numpy(numbers: np.ndarray) -> None:
    scale = np.abs(numbers).max()
    assert Spread.of(numbers).median == pytest.approx(np.median(numbers), rel=5e-4, abs=5e-4 * scale)


def test_arrays_larger_than_a_part() -> None:
    dice = np.random.default_rng(5)
    one = dice.uniform(1, 2, PART * 2 + 17)
    other = np.where(dice.random(one.size) < 0.1, one * dice.uniform(0.5, 2, one.size), one)
    found = differ(one, other)
    change = (other - one) / one
    assert found.changed == np.count_nonzero(change)
    assert found.spread.median == pytest.approx(np.median(change[change != 0]), rel=1e-3)
    assert found.largest is not None
    assert found.largest.place == np.abs(change).argmax()
    assert found.largest.change == change[found.largest.place]


def test_a_tolerance_is_relative_to_the_larger() -> None:
    one, other = np.array([100.0, 100.0, 0.0, np.nan]), np.array([101.0, 99.0, 1e-300, np.nan])
    assert differ(one, other, 0.01).changed == 1  # nothing is near to 0
    assert differ(one, other, 0.0099).changed == 3


# Sweeps.


@pytest.fixture
def faster(small: dict[str, Any]) -> dict[str, Any]:
    """The small sweep with another efficiency, and more memory, so that more fits."""
    memory = {"h100-sxm": "160 GiB", "mi300x": "192 GiB", "l4": "24 GiB"}
    return other_values(deepcopy(small), efficiency=0.55, hbm_capacity={"hardware": memory})


def test_a_sweep_is_the_same_as_itself(small_dataset: xr.Dataset) -> None:
    found = sg.compare(small_dataset, small_dataset)
    assert not found.changed
    assert not any(change.changed for change in found.variables)
    assert [change.points for change in found.variables] == [v.size for v in small_dataset.data_vars.values()]
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_every_variable_is_compared_as_numpy_does(faster: dict[str, Any], small_dataset: xr.Dataset) -> None:
    other = sg.sweep(**faster)
    found = sg.compare(small_dataset, other)
    assert found.changed
    for name, before in small_dataset.data_vars.items():
        change, after = variable(found, str(name)), other[name]
        assert change.axes == before.dims
        assert counts(change) == counted(before.values, after.values), name
        both = (before.astype(float) != 0) & (after.astype(float) != 0) & (before != after) & (before.dtype != bool)
        relative = ((after.astype(float) - before) / abs(before.astype(float))).where(
            both & before.notnull() & after.notnull()
        )
        if relative.notnull().any():
            assert change.median == pytest.approx(relative.median().item(), rel=1e-3)
            assert abs(change.largest) == abs(relative).max().item(), name
            assert relative.sel(change.where).item() == change.largest
            assert before.sel(change.where).item() == change.before
            assert after.sel(change.where).item() == change.after
    assert variable(found, "ttft").better == "lower"
    assert variable(found, "feasible").appeared > 0 == variable(found, "feasible").vanished
    assert variable(found, "feasible").after is True


def test_inputs_that_differ_are_named_with_their_numbers(faster: dict[str, Any], small_dataset: xr.Dataset) -> None:
    found = sg.compare(small_dataset, sg.sweep(**faster))
    inputs = {change.name: change for change in found.inputs}
    assert set(inputs) == {"efficiency", "hbm_capacity"}
    assert (inputs["efficiency"].before, inputs["efficiency"].after) == (0.5, 0.55)
    assert (inputs["hbm_capacity"].changed, inputs["hbm_capacity"].points) == (1, 3)
    assert inputs["hbm_capacity"].after == 160 * 2**30
    assert inputs["hbm_capacity"].where == {"hardware": "h100-sxm"}
    assert found.differing == ()
    assert found.equations == ()
    assert found.versions == {}


def test_a_table_in_place_of_a_number_is_said_in_words(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    found = sg.compare(small_dataset, sg.sweep(**other_values(small, hbm_capacity="100 GiB")))
    assert "hbm_capacity is a table over hardware in one, 100 GiB in other" in found.differing
    # Nothing is spread over an axis that it does not depend on.
    assert "max_active_requests is not compared: hardware is an axis of it in one only" in found.differing
    assert "max_active_requests" not in {change.name for change in found.variables}


def test_equations_that_differ_are_shown(small: dict[str, Any]) -> None:
    one, other = (sg.sweep(**small, where=f"itl <= {limit}", outputs=["itl"]) for limit in (0.05, 0.01))
    (equation,) = sg.compare(one, other).equations
    assert (equation.name, equation.before, equation.after) == ("selected", "itl <= 0.05", "itl <= 0.01")


def test_another_catalogue_shows_in_the_facts_that_a_dataset_holds(small_dataset: xr.Dataset) -> None:
    """What the sweep's text gives today is not what the dataset was made with: only its own numbers count."""
    old = small_dataset.assign_coords(hbm_bandwidth=small_dataset.hbm_bandwidth * [1.0, 0.5, 1.0])
    lines = small_dataset.attrs[FINGERPRINT].splitlines()
    stale = [f"{line.split()[0]} 0" if line.split()[0] in ("hbm_bandwidth", "peak_flops") else line for line in lines]
    old.attrs[FINGERPRINT] = "\n".join(stale)
    found = sg.compare(old, small_dataset)
    (bandwidth,) = found.inputs
    assert (bandwidth.name, bandwidth.changed, bandwidth.largest) == ("hbm_bandwidth", 1, 1.0)
    assert bandwidth.where == {"hardware": "mi300x"}
    assert found.differing == ("the values of peak_flops differ, or the labels that they are for",)


def test_other_versions_alone_are_no_change(small_dataset: xr.Dataset) -> None:
    found = sg.compare(small_dataset.assign_attrs(servegrid_version="0.0.9"), small_dataset)
    assert found.versions == {"servegrid_version": ("0.0.9", small_dataset.attrs["servegrid_version"])}
    assert not found.changed


# Labels.


def test_labels_are_paired_by_value(small_dataset: xr.Dataset, faster: dict[str, Any]) -> None:
    other = sg.sweep(**faster)
    expected = sg.compare(small_dataset, other)
    dice = np.random.default_rng(1)
    order = {axis: dice.permutation(size) for axis, size in other.sizes.items()}
    found = sg.compare(small_dataset, other.isel(order).transpose(*reversed(list(other.sizes))))
    assert found.to_dict()["variables"] == expected.to_dict()["variables"]
    assert [axis.is_changed for axis in found.axes] == [False] * 6


def test_labels_of_one_side_are_named_and_left_out(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    small["axes"] |= {"model": ["qwen3-32b", "llama-3.1-70b", "llama-3.1-8b"], "page_size": [16, 300.0]}
    found = sg.compare(small_dataset, sg.sweep(**small))
    axes = {axis.name: axis for axis in found.axes}
    assert (axes["model"].shared, axes["model"].only_one, axes["model"].only_other) == (2, (), ("qwen3-32b",))
    assert (axes["page_size"].shared, axes["page_size"].only_one, axes["page_size"].only_other) == (2, (1,), ())
    assert found.changed
    assert not any(change.changed for change in found.variables)
    assert variable(found, "throughput").points == small_dataset.throughput.size * 2 // 3
    assert found.inputs == ()  # their fingerprints differ, the numbers that both have do not
    assert found.differing == ()


def test_variables_of_one_side_are_named(small_dataset: xr.Dataset) -> None:
    found = sg.compare(small_dataset.drop_vars("itl"), small_dataset.drop_vars(["ttft", "feasible"]))
    assert (found.only_one, found.only_other) == (("ttft", "feasible"), ("itl",))
    assert found.changed


@pytest.mark.parametrize("swapped", [False, True])
def test_an_axis_of_one_side_is_compared_at_the_value_of_the_other(
    small: dict[str, Any], small_dataset: xr.Dataset, swapped: bool
) -> None:
    del small["values"]["efficiency"]
    small["axes"]["efficiency"] = [0.4, 0.5, 0.6]
    pair = [small_dataset, sg.sweep(**small)]
    found = sg.compare(*(reversed(pair) if swapped else pair))
    (axis,) = [axis for axis in found.axes if axis.name == "efficiency"]
    assert (axis.axis_of, axis.fixed, axis.shared) == ("one" if swapped else "other", 0.5, 1)
    assert len(found.variables) == len(small_dataset.data_vars)
    assert not any(change.changed for change in found.variables)
    assert found.differing == ()
    assert found.inputs == ()


def test_an_axis_without_the_value_of_the_other_cannot_be_aligned(
    small: dict[str, Any], small_dataset: xr.Dataset
) -> None:
    del small["values"]["efficiency"]
    small["axes"]["efficiency"] = [0.4, 0.6]
    found = sg.compare(small_dataset, sg.sweep(**small))
    assert found.differing == ("ttft is not compared: efficiency is an axis of it in other only",)
    assert {change.name for change in found.variables} == set(small_dataset.data_vars) - {"ttft"}


def test_a_model_that_is_fixed_is_found_among_the_labels(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    small["axes"].pop("model")
    small["values"]["model"] = "llama-3.1-70b"
    found = sg.compare(small_dataset, sg.sweep(**small))
    assert not any(change.changed for change in found.variables)
    assert variable(found, "throughput").points == small_dataset.throughput.size // 2
    small["values"]["model"] = "llama-3.1-8b"
    one, other = sg.sweep(**small), sg.sweep(**other_values(small, model="qwen3-32b"))
    named = {change.name: (change.before, change.after) for change in sg.compare(one, other).inputs}
    assert named["model"] == ("llama-3.1-8b", "qwen3-32b")


# Block by block.


@pytest.mark.parametrize("chunks", [{"model": 1}, {"hardware": 2, "seq_len": 1}, {"page_size": 2}, {}])
@pytest.mark.parametrize("block", [1, 200, 2**24])
def test_chunks_and_blocks_change_nothing(
    chunks: dict[str, int], block: int, faster: dict[str, Any], small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sg.compare(sg.sweep(**small), sg.sweep(**faster)).to_dict()
    monkeypatch.setattr(alignment, "BLOCK_BYTES", block)
    assert sg.compare(sg.sweep(**small, chunks=chunks), sg.sweep(**faster)).to_dict() == expected
    assert sg.compare(sg.sweep(**small), sg.sweep(**faster, chunks=chunks)).to_dict() == expected


def test_no_more_than_a_chunk_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset whose blocks count how much of them lives: the whole is 64 times as large as any part of it."""
    monkeypatch.setattr(alignment, "BLOCK_BYTES", 1)
    sizes: list[int] = []

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        (found,) = results = get_sync(graph, keys, **options)
        sizes.append(sum(part.nbytes for part in np.ravel(np.array(found, dtype=object)) if hasattr(part, "nbytes")))
        return results

    whole = xr.Dataset({"v": (("x", "y"), np.arange(64.0 * 64).reshape(64, 64))}, {"x": range(64), "y": range(64)})
    with dask.config.set(scheduler=get):
        found = sg.compare(whole.chunk(x=8, y=8), (whole + 1).chunk(x=16, y=64).isel(x=slice(None, None, -1)))
    assert variable(found, "v").changed == whole.v.size
    assert len(sizes) == 2 * 64
    assert max(sizes) <= whole.v.nbytes // 64


def test_a_store_is_read_a_chunk_at_a_time(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = sg.run(**small, out=tmp_path / "a.zarr", memory="384 MiB")
    stored.load().drop_encoding().chunk(model=1, hardware=1).to_zarr(tmp_path / "b.zarr", consolidated=False)
    monkeypatch.setattr(alignment, "BLOCK_BYTES", 1)
    read: list[int] = []

    def values(array: xr.Variable) -> np.ndarray:
        found = np.asarray(array.values)
        read.append(found.size)
        return found

    monkeypatch.setattr(alignment, "_values", values)
    assert not sg.compare(tmp_path / "b.zarr", tmp_path / "a.zarr").changed
    assert max(read) == stored.throughput.size // 6
    assert len(read) == sum(2 * stored[n].size // (stored[n].isel(model=0, hardware=0, missing_dims="ignore")).size
                            for n in stored.data_vars)  # fmt: skip


def test_blocks_are_whole_chunks() -> None:
    sizes = {"x": 10, "y": 100, "z": 1000}
    assert alignment.grown({"x": 1, "y": 10, "z": 100}, sizes, 999) == {"x": 1, "y": 10, "z": 100}
    assert alignment.grown({"x": 1, "y": 10, "z": 100}, sizes, 5_000) == {"x": 1, "y": 10, "z": 500}
    assert alignment.grown({"x": 1, "y": 10, "z": 100}, sizes, 35_000) == {"x": 1, "y": 30, "z": 1000}
    assert alignment.grown({"x": 1, "y": 1, "z": 1}, sizes, 10**7) == sizes
    assert alignment.grown({"x": 50, "y": 200, "z": 2000}, sizes, 1) == sizes


# Places and messages.


def test_stores_sweep_files_and_datasets_are_compared_alike(
    tmp_path: Path, small: dict[str, Any], small_dataset: xr.Dataset
) -> None:
    stored = sg.run(**small, out=tmp_path / "a.zarr")
    (tmp_path / "a.yaml").write_text(stored.attrs["sweep"])
    for other in (tmp_path / "a.zarr", tmp_path / "a.yaml", stored, small_dataset):
        found = sg.compare(tmp_path / "a.zarr", other)
        assert not found.changed
        assert [change.name for change in found.variables] == list(small_dataset.data_vars)


def test_an_unfinished_store_is_noted(small_dataset: xr.Dataset) -> None:
    found = sg.compare(small_dataset, small_dataset.assign_attrs(status="unfinished"))
    assert found.notes == ("other is unfinished: what is missing reads as NaN, 0 and false",)


def test_single_precision_differs_and_a_tolerance_forgives(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    single = sg.sweep(**small, dtype="float32")
    assert variable(sg.compare(small_dataset, single), "itl").changed > 0
    found = sg.compare(small_dataset, single, tolerance=1e-6)
    assert not found.changed
    assert "itl is float64 in one, float32 in other" in found.notes


def data(**changed: Any) -> xr.Dataset:
    content = {"name": "v", "labels": [1, 2], "units": "s"} | changed
    values = xr.Variable("x", np.arange(len(content["labels"])) + 1.0, {"units": content["units"]})
    return xr.Dataset({content["name"]: values}, {"x": content["labels"]})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda _: "there is none", "there is none: is no store, expected the folder or URL of a store, or a sweep"),
        (lambda folder: folder, "is no store, expected the folder or URL of a store, or a sweep file"),
        (lambda _: data(name="w"), r"one and other: have no variable in common \(got v; and w\), expected sweeps with"),
        (lambda _: data(labels=[3, 4]), r"nothing can be compared \(v is not compared: no label of x is in both\)"),
        (lambda _: data(labels=[1, 1]), "x: 1 stands twice, expected each label once"),
        (lambda _: data(units="ms"), r"\(v is not compared: its unit is s in one, ms in other\)"),
        (lambda _: data().isel(x=0, drop=True), r"\(v is not compared: x is an axis of it in one only\)"),
    ],
)
def test_what_cannot_be_compared(other: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(sg.InputError, match=message):
        sg.compare(data(), other(tmp_path))


@pytest.mark.parametrize("tolerance", [-1e-9, 1, float("nan"), True])
def test_a_tolerance_is_a_share(tolerance: float) -> None:
    with pytest.raises(
        sg.InputError, match=r"tolerance: got .*, expected a relative difference, at least 0 and below 1"
    ):
        sg.compare(data(), data(), tolerance=tolerance)


def test_a_damaged_chunk_is_a_fault_of_the_machine(tmp_path: Path, small: dict[str, Any]) -> None:
    sg.run(**small, out=tmp_path / "a.zarr")
    (chunk, *_) = [path for path in (tmp_path / "a.zarr" / "itl" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    with pytest.raises(sg.MachineError, match="itl is damaged; 'servegrid verify' tells what and where"):
        sg.compare(tmp_path / "a.zarr", tmp_path / "a.zarr")


# The command.


@pytest.fixture
def stores(tmp_path: Path, small: dict[str, Any], faster: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    faster["axes"]["model"] = ["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"]
    monkeypatch.chdir(tmp_path)
    sg.run(**small, out="a.zarr")
    sg.run(**faster, where="itl <= 0.05", out="b.zarr")


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["compare", *arguments], prog_name="servegrid")
    return result.exit_code, result.output


@pytest.mark.usefixtures("stores")
def test_the_command_says_what_changed() -> None:
    code, text = command("a.zarr", "b.zarr")
    lines = [line.split("  ") for line in text.splitlines()]
    firsts = {line[0]: [cell.strip() for cell in line[1:] if cell] for line in lines}
    assert code == 1
    assert text.startswith("a.zarr -> b.zarr\nmodel  2 labels in both; only in b.zarr: qwen3-32b\n")
    assert firsts["only in b.zarr"] == ["selected"]
    assert firsts["efficiency"] == ["1 of 1", "0.5", "0.55", "+10%", "-"]
    assert firsts["hbm_capacity"] == ["1 of 3", "80 GiB", "160 GiB", "+100%", "hardware h100-sxm"]
    assert firsts["ttft"][:3] == ["108 of 108", "-", "all better"]
    assert text.rstrip().splitlines()[-1].endswith("; the same: kv_fragmentation")


@pytest.mark.usefixtures("stores")
def test_the_command_says_that_nothing_changed(small_dataset: xr.Dataset) -> None:
    points = sum(array.size for array in small_dataset.data_vars.values())
    assert command("a.zarr", "a.zarr") == (0, f"a.zarr -> a.zarr\nall {points:,} values that both have are the same\n")
    code, text = command("a.zarr", "a.zarr", "--tolerance", "1e-9")
    assert (code, text.rstrip().endswith(" are the same within 1e-09")) == (0, True)


@pytest.mark.usefixtures("stores")
def test_the_command_prints_for_programs() -> None:
    expected = sg.compare("a.zarr", "b.zarr").to_dict()
    code, text = command("a.zarr", "b.zarr", "--json")
    assert (code, json.loads(text)) == (1, expected)
    code, text = command("a.zarr", "b.zarr", "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == [row["name"] for row in expected["variables"]]
    assert [float(row["largest"] or "nan") for row in rows] == pytest.approx(
        [row["largest"] or float("nan") for row in expected["variables"]], nan_ok=True, rel=0
    )


def test_the_command_refuses_what_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = command("a.zarr", "b.zarr")
    assert (code, text) == (
        2, "servegrid: a.zarr: is no store, expected the folder or URL of a store, or a sweep file\n",
    )  # fmt: skip
