"""The data contract of result datasets: labels, units, sources, types, what does not fit, how to make them again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pint
import pint_xarray
import pytest
import xarray as xr
import yaml

import servegrid as sg
from servegrid.api import load
from servegrid.catalog import Catalog
from servegrid.evaluate import prepare
from servegrid.parameters import gather
from servegrid.results import fingerprints, template

UNITS = {
    "throughput": "count/s",
    "ttft": "s",
    "itl": "s",
    "max_active_requests": "count",
    "kv_fragmentation": "1",
    "speedup_vs_static": "1",
    "parameters": "count",
    "active_parameters": "count",
    "layers": "1",
    "hidden_size": "1",
    "hbm_capacity": "byte",
    "hbm_bandwidth": "byte/s",
    "price_per_hour": "count/h",
    "power": "W",
    "bytes_per_element": "byte",
    "seq_len": "count",
    "page_size": "count",
    "max_batch_size": "count",
}


# Labels, units, types.


def test_the_dimensions_are_the_sweeps_in_its_order(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    order = list(small["axes"])
    assert list(small_dataset.sizes) == order
    for variable in small_dataset.variables.values():
        assert list(variable.dims) == [axis for axis in order if axis in variable.dims]
    for axis, labels in small["axes"].items():
        assert small_dataset[axis].values.tolist() == labels
        assert axis in small_dataset.xindexes


def test_outputs_come_in_the_order_asked_for(small: dict[str, Any]) -> None:
    dataset = sg.sweep(**small, outputs=["ttft", "kv_fragmentation", "itl"])
    assert list(dataset.data_vars) == ["ttft", "kv_fragmentation", "itl", "feasible"]


@pytest.mark.parametrize("name", UNITS)
def test_every_number_has_a_unit(name: str, small_dataset: xr.Dataset) -> None:
    assert small_dataset[name].attrs["units"] == UNITS[name]
    pint.UnitRegistry().parse_units(UNITS[name])


def test_every_variable_says_what_it_is_and_where_it_comes_from(
    small: dict[str, Any], small_dataset: xr.Dataset
) -> None:
    for name, variable in small_dataset.variables.items():
        assert variable.attrs["long_name"], name
        if name not in small["axes"]:
            assert variable.attrs["source"], name
    assert small_dataset.ttft.attrs["long_name"] == "time to first token"
    assert small_dataset.throughput.attrs["display_units"] == "token/s"
    assert "units" not in small_dataset.feasible.attrs  # a flag has none


def test_facts_name_their_documents(small_dataset: xr.Dataset) -> None:
    catalog = Catalog.default()
    source = small_dataset.hbm_bandwidth.attrs["source"]
    for hardware in small_dataset.hardware.values:
        document = catalog.source("accelerator", str(hardware), "memory_bandwidth")
        assert document is not None
        assert f"{hardware}: {document}" in source


def test_whole_numbers_are_whole_and_flags_are_flags(small_dataset: xr.Dataset) -> None:
    kinds = {name: variable.dtype.kind for name, variable in small_dataset.variables.items()}
    whole = {
        *("max_active_requests", "seq_len", "max_batch_size", "page_size"),
        *("layers", "attention_layers", "hidden_size", "heads", "kv_heads", "head_dim", "kv_latent_dim"),
    }
    labels = {"model", "hardware", "precision"}
    assert {name for name, kind in kinds.items() if kind == "i"} == whole
    assert {name for name, kind in kinds.items() if kind == "b"} == {"feasible"}
    assert {name for name, kind in kinds.items() if kind == "U"} == labels
    assert set(kinds.values()) == {"i", "b", "U", "f"}
    assert {small_dataset[name].dtype for name in whole} == {np.dtype("int64")}


def test_facts_lie_along_their_axis(small_dataset: xr.Dataset) -> None:
    catalog = Catalog.default()
    for hardware in small_dataset.hardware.values:
        device = catalog.accelerator(str(hardware))
        row = small_dataset.sel(hardware=hardware)
        assert row.hbm_capacity == device.memory_capacity
        assert row.hbm_bandwidth == device.memory_bandwidth
        price = np.nan if device.price_per_hour is None else device.price_per_hour
        np.testing.assert_array_equal(row.price_per_hour, price)
    for model in small_dataset.model.values:
        assert small_dataset.parameters.sel(model=model) == catalog.model(str(model)).architecture.parameters
    assert "hbm_capacity" not in small_dataset.xindexes


def test_what_a_value_replaces_is_no_fact_any_more() -> None:
    dataset = sg.sweep(
        axes={"hardware": ["h100-sxm", "h200"]},
        values={"model": "opt-13b", "precision": "fp16", "seq_len": 9, "hbm_bandwidth": "1 TB/s"},
    )
    assert "hbm_bandwidth" not in dataset.coords
    assert len(np.unique(dataset.itl)) == 1


# What does not fit.


def test_what_does_not_fit_is_zero_or_nan(small_dataset: xr.Dataset) -> None:
    fits = small_dataset.feasible
    assert 0 < fits.mean() < 1
    for name in ("itl", "speedup_vs_static"):
        np.testing.assert_array_equal(small_dataset[name].notnull(), fits)
    for name in ("throughput", "max_active_requests"):
        np.testing.assert_array_equal(small_dataset[name] > 0, fits)
        assert (small_dataset[name].where(~fits, 0) == 0).all()
    for name in ("ttft", "kv_fragmentation"):
        assert np.isfinite(small_dataset[name]).all()


# Attributes.


def test_the_dataset_says_how_and_when_it_was_made(small: dict[str, Any]) -> None:
    dataset = sg.sweep(**small, name="a-name", question="Why?", outputs=["ttft"])
    assert dataset.attrs["title"] == "a-name"
    assert dataset.attrs["question"] == "Why?"
    assert dataset.attrs["solver"] == "continuous_batching"
    assert dataset.attrs["servegrid_version"] == version("servegrid")
    assert dataset.attrs["numba_version"] == version("numba")
    age = datetime.now(UTC) - datetime.fromisoformat(dataset.attrs["created"])
    assert timedelta(0) <= age + timedelta(seconds=1) < timedelta(minutes=5)
    assert all(isinstance(value, str) for value in dataset.attrs.values())


FRAME = pd.DataFrame(
    {
        "case": ["a", "b"],
        "model": ["opt-13b", "llama-3.1-8b"],
        "seq_len": np.array([100, 200]),
        "measured": [0.01, np.nan],
        "engine": ["x", "y"],
    }
)
AGAIN: dict[str, dict[str, Any]] = {
    "axes": {
        "axes": {
            "model": ["opt-13b", "META-LLAMA/Llama-3.1-8B"],
            "seq_len": {"from": 100, "to": 1000, "num": 3, "spacing": "log"},
            "page_size": np.array([1, 16]),
            "hbm_bandwidth": ["2 TB/s", 4e12],
            "max_batch_size": range(1, 3),
            "provider": ["dear", "cheap"],
        },
        "values": {
            "hardware": "h100-sxm",
            "precision": "fp16",
            "efficiency": {"model": {"opt-13b": 0.3, "llama-3.1-8b": np.float64(0.5)}},
            "price_per_hour": xr.DataArray([2.0, 4.0], {"provider": ["cheap", "dear"]}),
        },
        "derive": {
            "dollars": {"expression": "throughput * 3600 / price_per_hour", "unit": "token/USD"},
            "twice": "2 * (ttft +\n  itl)",
        },
        "where": "ttft < 1 and itl < 0.01",
        "outputs": ["throughput", "ttft", "cost_per_million_tokens"],
        "question": "Why: 'this', \"that\" & the: other?",
    },
    "frame": {
        "cases": FRAME.drop(columns=["measured", "engine"]),
        "values": {"hardware": "h100-sxm", "precision": "fp16"},
    },
    "kept": {
        "cases": {"columns": FRAME, "keep": ["measured", "engine"]},
        "values": {"hardware": "h100-sxm", "precision": "fp16"},
    },
    "point": {"values": {"model": "opt-13b", "hardware": "h100-sxm", "precision": "fp16", "seq_len": np.int64(9)}},
}


def _without_time(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign_attrs(created="")


@pytest.mark.parametrize("kind", AGAIN)
def test_the_attributes_suffice_to_make_the_dataset_again(kind: str) -> None:
    dataset = sg.sweep(**AGAIN[kind])
    again = sg.sweep(**yaml.safe_load(dataset.attrs["sweep"]))
    xr.testing.assert_identical(_without_time(again), _without_time(dataset))
    for name, variable in dataset.variables.items():
        assert again[name].dtype == variable.dtype


def test_a_sweep_in_another_folder_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "points.csv").write_text("seq_len,model\n100,opt-13b\n200,llama-3.1-8b\n")
    (folder / "sweep.yaml").write_text(
        "cases: points.csv\nvalues: {hardware: h100-sxm, precision: fp16}\noutputs: [itl]\n"
    )
    dataset = sg.sweep(folder / "sweep.yaml")
    assert dataset.attrs["title"] == "sweep"
    monkeypatch.chdir(tmp_path)
    again = sg.sweep(**yaml.safe_load(dataset.attrs["sweep"]))
    xr.testing.assert_equal(again, dataset)


def test_the_fingerprint_is_that_of_the_numbers(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    def of(**changes: Any) -> dict[str, str]:
        return fingerprints(gather(load(**{**small, **changes})))

    def differing(**changes: Any) -> set[str]:
        """The quantities whose hash is not the same any more, or is new."""
        return {name for name, _ in of(**changes).items() ^ of().items()}

    written = "\n".join(f"{name} {digest}" for name, digest in of().items())
    assert written == small_dataset.attrs["fingerprint"]
    assert differing(question="Why?", name="another") == set()
    assert differing(values={"efficiency": 0.5, "dispatch_time": "11 us"}) == {"dispatch_time"}
    assert differing(values={"efficiency": 0.25}) == {"efficiency"}
    assert differing(axes={**small["axes"], "page_size": [1, 16, 301]}) == {"page_size"}
    assert differing(derive={"x": "ttft * 2"}) == {"x"}
    assert of(derive={"x": "ttft * 2"})["x"] != of(derive={"x": "ttft * 3"})["x"]


def test_the_fingerprint_of_a_part_of_the_axes_is_that_of_a_sweep_with_this_part(small: dict[str, Any]) -> None:
    whole = gather(load(**small))
    part = gather(load(**small | {"axes": {axis: labels[:2] for axis, labels in small["axes"].items()}}))
    assert fingerprints(whole, part.sizes) == fingerprints(part)
    assert fingerprints(whole) != fingerprints(part)
    assert fingerprints(whole, whole.sizes) == fingerprints(whole)


def test_the_template_is_the_dataset_without_its_bytes(small: dict[str, Any], small_dataset: xr.Dataset) -> None:
    parameters = gather(load(**small))
    empty = template(parameters, prepare(parameters))
    assert set(empty.variables) == set(small_dataset.variables)
    for name, variable in small_dataset.variables.items():
        assert empty[name].dims == variable.dims
        assert empty[name].dtype == variable.dtype
        assert empty[name].attrs == variable.attrs
    assert not empty.throughput.any()


# Units with pint-xarray.


@pytest.fixture
def pints_own_registry() -> Iterator[None]:
    """pint-xarray's registry when nobody meddles; mlsysim, in the same process, sets its own."""
    before = pint.get_application_registry().get()  # type: ignore[no-untyped-call]
    pint.set_application_registry(pint_xarray.setup_registry(pint.UnitRegistry()))  # type: ignore[no-untyped-call]
    yield
    pint.set_application_registry(before)  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("pints_own_registry")
def test_pint_quantifies_the_dataset_without_help() -> None:
    dataset = sg.sweep(
        axes={"hardware": ["h100-sxm", "h200"], "seq_len": [1000, 2000]},
        values={"model": "llama-3.1-8b", "precision": "fp16"},
        outputs=["throughput", "ttft", "itl", "cost_per_million_tokens", "kv_cache_bytes", "prefill_flops"],
        derive={"per_token": "kv_cache_bytes / seq_len", "rate": "1 / itl", "root": "sqrt(ttft)"},
        where="ttft < 1",
    )
    quantified = dataset.pint.quantify()
    capacity = quantified.hbm_capacity.sel(hardware="h100-sxm")
    assert capacity.pint.to("GiB").item().magnitude == 80
    milliseconds = quantified.ttft.pint.to("ms").pint.dequantify()
    np.testing.assert_allclose(milliseconds, dataset.ttft * 1000, rtol=1e-15)
    assert quantified.kv_cache_bytes.pint.to("GiB").pint.units == pint_xarray.unit_registry.GiB
    assert quantified.per_token.pint.units.is_compatible_with("byte")
    assert quantified.rate.pint.units.is_compatible_with("Hz")
    assert quantified.root.pint.units.is_compatible_with("s**0.5")
    assert quantified.feasible.pint.units is None
    step = (1 / quantified.throughput).pint.to("s/count").pint.dequantify()
    np.testing.assert_allclose(step, dataset.itl, rtol=1e-15)  # one request runs


@pytest.mark.usefixtures("pints_own_registry")
def test_the_small_dataset_quantifies_as_well(small_dataset: xr.Dataset) -> None:
    quantified = small_dataset.pint.quantify()
    speed = quantified.hbm_bandwidth.sel(hardware="l4").pint.to("GB/s").item()
    assert speed.magnitude == pytest.approx(300, rel=1e-12)
    back = quantified.pint.dequantify(format="~")
    np.testing.assert_array_equal(back.throughput, small_dataset.throughput)
