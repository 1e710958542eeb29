"""Sweeps that have grown: the store is extended in place, only what is new is computed; anything else is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from contents import files, timeless
from datasets import assert_same_bits, stamps
from hypothesis import given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid import place, planning, store
from servegrid.api import load
from servegrid.quantity import quantity
from servegrid.runner import Report, store_sweep
from servegrid.summary import summarise

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

# Labels with facts, labels of one's own with a table, numbers, an axis of one label, flags, and NaN where nothing fits.
BASE: dict[str, Any] = {
    "name": "base",
    "axes": {
        "model": ["llama-3.1-8b", "llama-3.1-70b"],
        "page_size": [1, 16, 300],
        "hardware": ["h100-sxm", "l4"],
        "memory": ["good", "slow"],
        "seq_len": {"from": 1000, "to": 1400, "step": 100},
        "max_batch_size": [64],
    },
    "values": {
        "precision": "fp16",
        "hbm_bandwidth": {"memory": {"good": "4 TB/s", "slow": "1 TB/s"}},
        "efficiency": {"hardware": {"h100-sxm": 0.5, "l4": 0.4}},
    },
    "where": "ttft <= 30",
    "outputs": ["itl", "ttft", "hbm_bandwidth", "kv_fragmentation"],
}
BLOCK_BYTES = (500, 2**26)


def axes(**changed: Any) -> dict[str, Any]:
    """The base with other labels."""
    return {**BASE, "axes": {**BASE["axes"], **changed}}


def values(sweep: dict[str, Any] = BASE, **changed: Any) -> dict[str, Any]:
    """The sweep with other values."""
    return {**sweep, "values": {**BASE["values"], **changed}}


EFFICIENCY = {"hardware": {"mi300x": 0.3, "l4": 0.4, "h200": 0.25, "h100-sxm": 0.5}}
MEMORY = {"memory": {"größer und teurer": "8 TB/s", "good": "4 TB/s", "slow": "1 TB/s"}}

GROWN: dict[str, dict[str, Any]] = {
    "a label after the others": axes(model=["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"]),
    "labels between the others": axes(page_size=[1, 8, 16, 64, 300]),
    "a label before the others": axes(page_size=[512, 1, 16, 300]),
    "labels in another order": axes(page_size=[300, 1, 16], model=["llama-3.1-70b", "llama-3.1-8b"]),
    "labels in another order, and more": axes(model=["qwen3-32b", "llama-3.1-70b", "gpt-oss-20b", "llama-3.1-8b"]),
    "a longer range": axes(seq_len={"from": 1000, "to": 1900, "step": 100}),
    "a finer range": axes(seq_len={"from": 1000, "to": 1400, "step": 50}),
    "more on an axis of one": axes(max_batch_size=[1, 2, 4, 64, 128, 256]),
    "more on the innermost and outermost": axes(
        model=["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"], max_batch_size=[64, 1]
    ),
    "a table over an axis with more": values(
        axes(hardware=["h200", "h100-sxm", "mi300x", "l4"]), efficiency=EFFICIENCY
    ),
    "longer labels of one's own": values(axes(memory=["größer und teurer", "good", "slow"]), hbm_bandwidth=MEMORY),
    "outputs": {**BASE, "outputs": ["throughput", "feasible", *reversed(BASE["outputs"])]},
    "quantities of one's own": {
        **BASE,
        "derive": {"double": "itl * 2"},
        "outputs": [*BASE["outputs"], "double", "dispatch_time"],
    },
    "everything at once": {
        **values(
            axes(
                model=["qwen3-32b", "llama-3.1-70b", "llama-3.1-8b"],
                page_size=[300, 16, 8, 1],
                hardware=["h200", "h100-sxm", "mi300x", "l4"],
                memory=["größer und teurer", "good", "slow"],
                seq_len=[1400, 1300, 1200, 1100, 1000, 999],
                max_batch_size=[1, 64],
            ),
            efficiency=EFFICIENCY,
            hbm_bandwidth=MEMORY,
        ),
        "derive": {"double": "itl * 2"},
        "outputs": [*BASE["outputs"], "double", "throughput", "pages_per_request"],
        "name": "grown",
        "question": "How much more?",
    },
}


def stored(sweep: dict[str, Any], out: Path) -> Report:
    return store_sweep(load(**deepcopy(sweep)), out)


def assert_holds(out: Path, sweep: dict[str, Any]) -> None:
    """The store has the bits of the sweep's results, its own order of labels, and describes itself rightly."""
    with xr.open_zarr(out) as found:
        found = found.load()
    fresh = sg.sweep(**deepcopy(sweep))
    assert set(found.variables) == set(fresh.variables)
    assert {axis: set(found[axis].values.tolist()) for axis in found.dims} == {
        axis: set(fresh[axis].values.tolist()) for axis in fresh.dims
    }
    ordered = found.sel({axis: fresh[axis].values for axis in fresh.dims if axis in fresh.coords})
    for name, variable in fresh.variables.items():
        same = ordered.variables[name]
        assert (same.dims, same.dtype) == (variable.dims, variable.dtype), name
        assert np.ascontiguousarray(same.values).tobytes() == variable.values.tobytes(), name
    again = yaml.safe_load(found.attrs["sweep"])
    assert_same_bits(found, sg.sweep(**again))


def whole_chunks(before: Report, after: Report) -> set[str]:
    """The chunks that were there, but for those that the old end of an axis had cut short."""
    old, new = before.plan.parameters.sizes, after.plan.parameters.sizes
    block = before.plan.blocks.block
    kept = set()
    for name, variable in before.plan.evaluator.outputs.items():
        for position in np.ndindex(*variable.shape(before.plan.blocks.counts)):
            ends = {axis: (place + 1) * block[axis] for axis, place in zip(variable.axes, position, strict=True)}
            if all(ends[axis] <= old[axis] or old[axis] == new[axis] for axis in variable.axes):
                kept.add("/".join([name, "c", *map(str, position)]))
    return kept


@pytest.fixture(params=BLOCK_BYTES)
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of so many bytes: with the smaller ones many chunks end at the old ends of axes, or are cut by them."""
    monkeypatch.setattr(planning, "LARGEST_REGION", request.param)
    return int(request.param)


# Extended stores.


@pytest.mark.parametrize("grown", GROWN.values(), ids=list(GROWN))
def test_an_extended_store_is_the_one_of_the_larger_sweep_and_keeps_what_it_had(
    grown: dict[str, Any], block_bytes: int, tmp_path: Path
) -> None:
    out = tmp_path / "o.zarr"
    first = stored(BASE, out)
    before = stamps(out)
    report = stored(grown, out)
    assert_holds(out, grown)
    kept, after = whole_chunks(first, report), stamps(out)
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert (report.stored, report.tally.chunks) == (len(kept), report.chunks - len(kept))
    assert "status" not in json.loads((out / "zarr.json").read_text())["attributes"]
    # And now it is there: nobody computes anything any more.
    again = stored(grown, out)
    assert (again.tally.chunks, again.grown) == (0, "")
    assert stamps(out) == after


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a label after the others", "model by 1"),
        ("labels in another order", ""),
        ("a longer range", "seq_len by 5"),
        ("outputs", "output throughput, output feasible"),
        (
            "everything at once",
            "model by 1, page_size by 1, hardware by 2, memory by 1, seq_len by 1, max_batch_size by 1, "
            "output double, output throughput, output pages_per_request",
        ),
    ],
)
def test_a_report_tells_by_what_the_store_was_extended(name: str, told: str, tmp_path: Path) -> None:
    stored(BASE, tmp_path / "o.zarr")
    assert stored(GROWN[name], tmp_path / "o.zarr").grown == told


def test_stored_labels_keep_their_places_and_new_ones_come_last_in_the_order_of_the_sweep(tmp_path: Path) -> None:
    out = tmp_path / "o.zarr"
    stored(BASE, out)
    stored(GROWN["everything at once"], out)
    with xr.open_zarr(out) as found:
        assert found.model.values.tolist() == ["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"]
        assert found.page_size.values.tolist() == [1, 16, 300, 8]
        assert found.hardware.values.tolist() == ["h100-sxm", "l4", "h200", "mi300x"]
        assert found.seq_len.values.tolist() == [1000, 1100, 1200, 1300, 1400, 999]
        assert found.attrs["title"] == "grown"


@pytest.mark.parametrize("name", ["labels in another order", "everything at once"])
def test_the_summary_of_an_extended_store_is_that_of_the_whole(name: str, tmp_path: Path) -> None:
    sweep, out = GROWN[name], tmp_path / "o.zarr"
    stored(BASE, out)
    extended, fresh = summarise(stored(sweep, out)), summarise(stored(sweep, tmp_path / "fresh.zarr"))
    assert extended.shares == fresh.shares
    latencies = [best.itl.to_series().dropna().to_dict() for best in (extended.best, fresh.best) if best is not None]
    assert latencies[0] == latencies[1] != {}


@pytest.mark.parametrize("parts", [[1, 2, 3], [3, 1, 2]])
def test_parts_extend_a_store_as_one_run_does(
    parts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", 1000)
    sweep = GROWN["everything at once"]
    for name in ("whole.zarr", "parts.zarr"):
        stored(BASE, tmp_path / name)
    stored(sweep, tmp_path / "whole.zarr")
    for part in parts:
        sg.run(**deepcopy(sweep), out=tmp_path / "parts.zarr", part=f"{part}/3").close()
    assert timeless(files(tmp_path / "parts.zarr")) == timeless(files(tmp_path / "whole.zarr"))


def test_an_axis_on_which_no_output_depended_grows_with_one_that_does(tmp_path: Path) -> None:
    idle = {**BASE, "outputs": ["ttft"]}
    more = {**axes(page_size=[1, 16, 300, 512]), "outputs": ["ttft", "kv_fragmentation", "itl"]}
    stored(idle, tmp_path / "o.zarr")
    stored(more, tmp_path / "o.zarr")
    assert_holds(tmp_path / "o.zarr", more)


def test_single_precision_grows_too(tmp_path: Path) -> None:
    single, more = ({**sweep, "dtype": "float32"} for sweep in (BASE, GROWN["everything at once"]))
    stored(single, tmp_path / "o.zarr")
    stored(more, tmp_path / "o.zarr")
    assert_holds(tmp_path / "o.zarr", more)


def test_numbers_of_ones_own_may_be_an_axis_that_grows(tmp_path: Path) -> None:
    own = {**axes(discount=[1]), "derive": {"paid": "itl * discount"}, "outputs": ["paid"]}
    more = {**own, "axes": {**own["axes"], "discount": [0.8, 1, 0.5]}}
    stored(own, tmp_path / "o.zarr")
    stored(more, tmp_path / "o.zarr")
    assert_holds(tmp_path / "o.zarr", more)


def test_texts_with_units_are_the_labels_that_they_mean(tmp_path: Path) -> None:
    given_in = {"axes": {"hbm_bandwidth": ["4 TB/s", "1 TB/s"]}, "values": {**POINT, "seq_len": 1000}}
    more = {**given_in, "axes": {"hbm_bandwidth": [1e12, "2000 GB/s", 4_000_000_000_000]}}
    stored(given_in, tmp_path / "o.zarr")
    assert stored(more, tmp_path / "o.zarr").grown == "hbm_bandwidth by 1"
    assert_holds(tmp_path / "o.zarr", more)


# Cases: rows are labels of one axis.

POINT = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp16"}
ROWS = "case,seq_len,max_batch_size,measured_ttft\na,1000,1,0.1\nb,2000,8,0.2\nc,4000,64,0.4\n"


def cases(table: str, folder: Path, **changed: Any) -> dict[str, Any]:
    """A sweep over the rows of a CSV file."""
    (folder / "runs.csv").write_text(table)
    columns = {"file": str(folder / "runs.csv"), "keep": ["measured_ttft"]}
    return {"axes": {"page_size": [1, 16]}, "cases": columns, "values": POINT, "outputs": ["itl", "ttft"], **changed}


@pytest.mark.parametrize("largest", [40, 2**26])
def test_more_rows_extend_a_store_of_cases(largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LARGEST_REGION", largest)
    out = tmp_path / "o.zarr"
    stored(cases(ROWS, tmp_path), out)
    more = cases(ROWS + "much longer a name,8000,7,0.8\ne,500,3,0.05\n", tmp_path)
    assert stored(more, out).grown == "case by 2"
    assert_holds(out, more)
    with xr.open_zarr(out) as found:
        assert found.case.values.tolist() == ["a", "b", "c", "much longer a name", "e"]
        assert found.measured_ttft.values.tolist() == [0.1, 0.2, 0.4, 0.8, 0.05]


def test_rows_without_names_are_numbered_on(tmp_path: Path) -> None:
    frame = pd.DataFrame({"seq_len": [1000, 2000], "max_batch_size": [1, 8]})
    more = pd.concat([frame, pd.DataFrame({"seq_len": [3000], "max_batch_size": [9]})])
    sweep: dict[str, Any] = {"values": POINT, "outputs": ["itl", "ttft"]}
    stored({**sweep, "cases": frame}, tmp_path / "o.zarr")
    assert stored({**sweep, "cases": more}, tmp_path / "o.zarr").grown == "case by 1"
    assert_holds(tmp_path / "o.zarr", {**sweep, "cases": more})


def test_what_is_only_kept_beside_the_cases_may_change(tmp_path: Path) -> None:
    out = tmp_path / "o.zarr"
    stored(cases(ROWS, tmp_path), out)
    report = stored(cases(ROWS.replace("0.4", "0.5"), tmp_path), out)
    assert report.tally.chunks == 0
    with xr.open_zarr(out) as found:
        assert found.measured_ttft.values.tolist() == [0.1, 0.2, 0.5]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (ROWS.replace("c,4000,64,0.4\n", ""), "case has 'c' there, which the sweep lacks"),
        (ROWS.replace("\nc,", "\nz,"), "case has 'c' there, which the sweep lacks"),
        (ROWS.replace("4000", "4001"), "the values of seq_len differ"),
        (ROWS.replace("a,1000", "new,500,3,0.05\na,1000"), "the values of max_batch_size differ; "),
    ],
    ids=["a row less", "another name", "another number", "a row before the others"],
)
def test_rows_that_are_not_the_same_are_refused(table: str, message: str, tmp_path: Path) -> None:
    stored(cases(ROWS, tmp_path), tmp_path / "o.zarr")
    with pytest.raises(sg.InputError, match=rf"o\.zarr: holds another sweep \({re.escape(message)}"):
        stored(cases(table, tmp_path), tmp_path / "o.zarr")


# Sweeps that are no larger, but others.


@quantity(unit="s", long_name="inter-token latency")
def itl(weight_read_time, kv_read_time, max_active_requests):  # type: ignore[no-untyped-def]
    return weight_read_time + 2 * max_active_requests * kv_read_time if max_active_requests > 0 else 0.0


@quantity(unit="1", long_name="share of the cache that is filled")
def filled(max_active_requests, kv_capacity_requests):  # type: ignore[no-untyped-def]
    return max_active_requests / kv_capacity_requests


ORDER = "model, page_size, hardware, memory, seq_len, max_batch_size"
OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "an axis more": (
        axes(dispatch_time=["10 us"]),
        f"its axes are {ORDER}, those of the sweep {ORDER}, dispatch_time",
    ),
    "an axis less": (
        {
            **values(max_batch_size=64),
            "axes": {axis: labels for axis, labels in BASE["axes"].items() if axis != "max_batch_size"},
        },
        f"its axes are {ORDER}, those of the sweep {ORDER.removesuffix(', max_batch_size')}",
    ),
    "axes in another order": (
        {**BASE, "axes": dict(reversed(BASE["axes"].items()))},
        f"its axes are {ORDER}, those of the sweep max_batch_size, seq_len, memory, hardware, page_size, model",
    ),
    "a label less": (axes(model=["llama-3.1-8b"]), "model has 'llama-3.1-70b' there, which the sweep lacks"),
    "labels less": (axes(page_size=[16]), "page_size has 1 and 1 more there, which the sweep lacks"),
    "other labels": (
        axes(page_size=[1, 16, 301], seq_len={"from": 1000, "to": 1300, "step": 100}),
        "page_size has 300 there, which the sweep lacks; seq_len has 1400 there, which the sweep lacks",
    ),
    "an output less": ({**BASE, "outputs": ["itl", "hbm_bandwidth"]}, "it has the output ttft, which the sweep lacks"),
    "another number": (values(dispatch_time=2.5e-05), "dispatch_time is 1e-05 s there, 2.5e-05 s in the sweep"),
    "another table": (
        values(efficiency={"hardware": {"h100-sxm": 0.5, "l4": 0.3}}),
        "the values of efficiency differ",
    ),
    "a number for a table": (values(efficiency=0.5), "the values of efficiency differ"),
    "another table of a larger sweep": (
        values(
            axes(hardware=["mi300x", "h100-sxm", "l4"]),
            efficiency={"hardware": {"h100-sxm": 0.5, "l4": 0.3, "mi300x": 0.5}},
        ),
        "the values of efficiency differ",
    ),
    "another equation": (
        {**BASE, "solver": sg.CONTINUOUS_BATCHING.extended(itl)},
        "the equation of itl differs",
    ),
    "a value for an equation": (values(pages_per_request=64), "the values of pages_per_request differ"),
    "another filter": ({**BASE, "where": "ttft <= 3"}, "the equation of selected differs"),
    "no filter": (
        {key: value for key, value in BASE.items() if key != "where"},
        "it has the output selected, which the sweep lacks",
    ),
    "single precision": ({**BASE, "dtype": "float32"}, "its numbers are float64, those of the sweep float32"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the base; nobody writes to it."""
    out = tmp_path_factory.mktemp("base") / "o.zarr"
    stored(BASE, out)
    return out


@pytest.mark.parametrize(("other", "message"), OTHER.values(), ids=list(OTHER))
@pytest.mark.parametrize("part", [None, "1/2"], ids=["alone", "a part"])
def test_another_sweep_is_refused_with_what_differs(
    part: str | None, other: dict[str, Any], message: str, base: Path
) -> None:
    before, touched = files(base), stamps(base)
    with pytest.raises(sg.InputError) as refusal:
        sg.run(**deepcopy(other), out=base, part=part)
    assert str(refusal.value) == (
        f"{base}: holds another sweep ({message}); give another name, or --overwrite to throw that store away"
    )
    assert (files(base), stamps(base)) == (before, touched)


def test_a_changed_name_in_place_of_a_value_is_told_by_what_follows_from_it(base: Path) -> None:
    with pytest.raises(
        sg.InputError, match=r"holds another sweep \(bytes_per_element is 2 byte there, 0\.5 byte in the sweep\)"
    ):
        stored(values(precision="int4"), base)


def test_no_more_than_three_differences_are_told(base: Path) -> None:
    changed = values(dispatch_time=0, precision="int8", pages_per_request=1, hbm_capacity="1 GiB")
    with pytest.raises(sg.InputError) as refusal:
        stored({**changed, "where": "ttft <= 3"}, base)
    assert str(refusal.value) == (
        f"{base}: holds another sweep (bytes_per_element is 2 byte there, 1 byte in the sweep; "
        "dispatch_time is 1e-05 s there, 0 s in the sweep; the values of hbm_capacity differ; 3 more); "
        "give another name, or --overwrite to throw that store away"
    )


def test_overwrite_replaces_a_store_that_cannot_grow_to_the_sweep(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "o.zarr")
    sweep, _ = OTHER["another table of a larger sweep"]
    sg.run(**deepcopy(sweep), out=tmp_path / "o.zarr", overwrite=True).close()
    with xr.open_zarr(tmp_path / "o.zarr") as found:
        assert_same_bits(found, sg.sweep(**sweep))  # in its own order


def test_equations_of_ones_own_extend_a_store_by_an_output(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "o.zarr")
    more = {
        **BASE,
        "solver": sg.CONTINUOUS_BATCHING.extended(filled),
        "outputs": [*BASE["outputs"], "filled"],
    }
    assert stored(more, tmp_path / "o.zarr").grown == "output filled"
    with xr.open_zarr(tmp_path / "o.zarr") as found:
        assert_same_bits(found, sg.sweep(**more))


def test_a_store_of_a_version_with_other_names_is_refused(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.zarr"
    shutil.copytree(base, out)
    root = json.loads((out / "zarr.json").read_text())
    root["attributes"] |= {
        "servegrid_version": "0.0.1",
        "sweep": root["attributes"]["sweep"].replace("- llama-3.1-70b", "- llama-0"),
    }
    (out / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(
        sg.InputError, match=r"holds another sweep \(made by servegrid 0\.0\.1, which this one does not"
    ):
        stored(BASE, out)


# Extended by and by, in any order, with interruptions.

LABELS: dict[str, list[Any]] = {
    "hardware": ["h100-sxm", "l4", "mi300x", "h200"],
    "page_size": [1, 16, 300, 512, 48],
    "seq_len": [1000, 131072, 8192, 77],
}
OUTPUTS = ["itl", "ttft", "kv_fragmentation", "max_active_requests"]


def quick(**changed: list[Any]) -> dict[str, Any]:
    """A sweep that is soon done."""
    outputs = changed.pop("outputs", OUTPUTS)
    return {
        "axes": {axis: changed[axis] for axis in LABELS},
        "values": {"model": "llama-3.1-70b", "precision": "int8", "max_batch_size": 64},
        "outputs": outputs,
    }


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Sweeps of which each has at least the labels and outputs of the one before, in any order."""
    grown = []
    known: dict[str, list[Any]] = {axis: [] for axis in LABELS}
    steps = draw(st.integers(2, 4))
    with_all_outputs = draw(st.integers(0, steps))  # from this step on; each choice of outputs is a kernel to compile
    for step in range(steps):
        for axis, all_of_them in LABELS.items():
            more = draw(st.sets(st.sampled_from(all_of_them), min_size=0 if known[axis] else 1), label=axis)
            known[axis] = draw(st.permutations(sorted(more | set(known[axis]), key=str)))
        grown.append(quick(**known, outputs=OUTPUTS if step >= with_all_outputs else OUTPUTS[:2]))
    return grown


@contextmanager
def failing_chunks(at: int) -> Iterator[None]:
    """The disk is full from the n-th block on."""
    real, calls = store.Store.write, count()

    def write(self: store.Store, *arguments: Any) -> None:
        if next(calls) >= at:
            raise OSError("full")
        real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.Store, "write", write)
        yield


@settings(max_examples=15)
@given(
    history=histories(),
    largest=st.sampled_from([9, 50, 200, 2**26]),
    fails_at=st.lists(st.integers(0, 12), min_size=4, max_size=4),
)
def test_a_store_that_grows_and_grows_is_that_of_the_last_sweep(
    history: list[dict[str, Any]], largest: int, fails_at: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("history") / "o.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "LARGEST_REGION", largest)
        # Some steps are not finished before the next begins.
        for sweep, at in zip(history[:-1], fails_at, strict=False):
            with failing_chunks(at), suppress(sg.MachineError):
                stored(sweep, out)
        stored(history[-1], out)
    assert_holds(out, history[-1])
    assert sg.verify(out, everything=True).is_good


# Stopped at any moment of the extension itself.

OLD = quick(hardware=["h100-sxm", "l4"], page_size=[1, 16, 300], seq_len=[1000, 131072], outputs=["itl", "ttft"])
NEW = quick(
    hardware=["mi300x", "h100-sxm", "l4"],
    page_size=[300, 48, 1, 16],
    seq_len=[1000, 131072],
    outputs=["ttft", "itl", "max_active_requests"],
)


class PowerCutError(RuntimeError):
    """The end of a run, which nobody handles."""


@contextmanager
def cut_before(change: int) -> Iterator[None]:
    """The run ends before it changes a document for the n-th time."""
    write, remove, changes = place.Folder.write, place.Folder.remove, count(1)

    def tick() -> None:
        if next(changes) == change:
            raise PowerCutError

    def ticking_write(self: place.Folder, key: str, content: bytes) -> None:
        tick()
        write(self, key, content)

    def ticking_remove(self: place.Folder, keys: Iterable[str]) -> None:
        for key in keys:
            tick()
            remove(self, [key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place.Folder, "write", ticking_write)
        patch.setattr(place.Folder, "remove", ticking_remove)
        yield


def interrupted(sweep: dict[str, Any], out: Path, change: int) -> bool:
    """Whether a run was cut off before its n-th change; it was at its end otherwise."""
    try:
        with cut_before(change):
            stored(sweep, out)
    except PowerCutError:
        return True
    return False


@pytest.fixture
def half_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two page sizes, so that the third of the old sweep has half a chunk."""
    monkeypatch.setattr(planning, "LARGEST_REGION", 60)


@pytest.fixture
def ends(tmp_path: Path, half_blocks: None) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """The old store, its files, and those of the store that it becomes undisturbed."""
    old, new = tmp_path / "old.zarr", tmp_path / "new.zarr"
    stored(OLD, old)
    shutil.copytree(old, new)
    stored(NEW, new)
    assert_holds(new, NEW)
    return old, timeless(files(old)), timeless(files(new))


def assert_readers_get_nothing_wrong(out: Path, fresh: xr.Dataset) -> None:
    """Whoever reads the store now gets what is right or missing; or an error, while its labels are written."""
    try:
        with xr.open_zarr(out) as found:
            found = found.load()
    except ValueError as error:
        if "cannot reshape" in str(error):
            return
        raise
    assert found.sizes == fresh.sizes
    ordered = found.sel({axis: fresh[axis].values for axis in fresh.dims})
    for name in ("itl", "ttft"):
        assert ((ordered[name] == fresh[name]) | ordered[name].isnull()).all()


def test_an_extension_that_is_cut_off_anywhere_goes_on_or_back(
    ends: tuple[Path, dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    old, of_old, of_new = ends
    smaller_and_larger = sg.sweep(**deepcopy(OLD)), sg.sweep(**deepcopy(NEW))
    went_back = went_on = 0
    for change in count(1):
        out = tmp_path / f"{change}.zarr"
        shutil.copytree(old, out)
        if not interrupted(NEW, out, change):
            break
        # What the root says is what the store can become.
        names_new = "mi300x" in json.loads((out / "zarr.json").read_text())["attributes"]["sweep"]
        assert_readers_get_nothing_wrong(out, smaller_and_larger[names_new])
        back = tmp_path / f"{change}-back.zarr"
        shutil.copytree(out, back)
        if names_new:
            with pytest.raises(sg.InputError, match="hardware has 'mi300x' there, which the sweep lacks"):
                stored(OLD, back)
        else:
            stored(OLD, back)
            assert timeless(files(back)) == of_old, change
            went_back += 1
        stored(NEW, back)
        assert timeless(files(back)) == of_new, change
        stored(NEW, out)
        assert timeless(files(out)) == of_new, change
        went_on += 1
    assert timeless(files(out)) == of_new
    # Twice a root, the stale chunks, labels and facts; and the root once more when all is done.
    assert 10 < went_back < went_on


def test_a_chunk_that_is_whole_is_the_same_file_wherever_the_extension_is_cut_off(
    ends: tuple[Path, dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    old, _, _ = ends
    before = store_sweep(load(**OLD), old)
    for change in range(1, 100, 7):
        out = tmp_path / "o.zarr"
        shutil.copytree(old, out)
        touched = stamps(out)
        cut = interrupted(NEW, out, change)
        after = stored(NEW, out)
        kept = whole_chunks(before, after)
        assert 0 < len(kept) < before.chunks
        now = stamps(out)
        assert {key: now[key] for key in kept} == {key: touched[key] for key in kept}
        shutil.rmtree(out)
        if not cut:
            break
    assert not cut


def test_a_first_run_that_is_cut_off_anywhere_goes_on(
    ends: tuple[Path, dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    _, of_old, _ = ends
    for change in count(1):
        out = tmp_path / f"{change}.zarr"
        if not interrupted(OLD, out, change):
            break
        if change > 1:  # from the first moment on it is known what the store is to be
            with pytest.raises(sg.InputError, match="holds another sweep"):
                stored({**OLD, "dtype": "float32"}, out)
        stored(OLD, out)
        assert timeless(files(out)) == of_old, change
    assert change > 10


def test_an_overwrite_that_is_cut_off_anywhere_can_be_repeated(
    ends: tuple[Path, dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    _, of_old, _ = ends
    stored({**OLD, "dtype": "float32"}, tmp_path / "single.zarr")
    for change in count(1):
        out = tmp_path / f"{change}.zarr"
        shutil.copytree(tmp_path / "single.zarr", out)
        try:
            with cut_before(change):
                sg.run(**deepcopy(OLD), out=out, overwrite=True).close()
        except PowerCutError:
            sg.run(**deepcopy(OLD), out=out, overwrite=True).close()
        else:
            break
        assert timeless(files(out)) == of_old, change
    assert timeless(files(out)) == of_old
    assert change > 10
