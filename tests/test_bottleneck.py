"""Labels as a kind of quantity, and the one of the solver that says which term binds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from datasets import assert_same_bits

import servegrid as sg
from servegrid.api import load
from servegrid.cli import main
from servegrid.equations.binding import BOTTLENECKS
from servegrid.point import Walkthrough
from servegrid.quantity import Quantity, quantity_of

GIB = 2**30
POINT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm",
    "precision": "fp16",
    "seq_len": 2048,
    "max_batch_size": 32,
}


def binding(**values: Any) -> str:
    """The label at one point."""
    given = {name: value for name, value in {**POINT, **values}.items() if value is not None}
    dataset = sg.sweep(values=given, outputs=["bottleneck"])
    return dataset.bottleneck.attrs["flag_meanings"].split()[dataset.bottleneck.item()]  # type: ignore[no-any-return]


# What binds.


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"max_batch_size": 1}, "batch_limit"),  # the weights are read for one request
        ({"max_batch_size": 180}, "memory_bandwidth"),  # the caches outweigh the weights
        ({"max_batch_size": 10_000}, "memory_capacity"),
        ({"hbm_capacity": "1 GiB"}, "memory_capacity"),  # nothing fits
        ({"hbm_capacity": "1 PB", "max_batch_size": 10_000}, "memory_bandwidth"),
        ({"hbm_bandwidth": "1 PB/s"}, "compute"),
        ({"peak_flops": "1 GFLOP/s"}, "compute"),
        ({"peak_flops": "1 GFLOP/s", "hbm_capacity": "1 GiB"}, "memory_capacity"),
        ({"seq_len": 1, "page_size": 1, "max_batch_size": 1000, "peak_flops": "1000 PFLOP/s"}, "batch_limit"),
    ],
)
def test_limits(values: dict[str, Any], label: str) -> None:
    assert binding(**values) == label


def test_a_slow_loop_agrees_over_a_grid(small: dict[str, Any]) -> None:
    small["axes"]["max_batch_size"] = [1, 7, 64, 4000]
    needed = ["parameters", "active_parameters", "attention_layers", "kv_heads", "head_dim", "kv_latent_dim"]
    outputs = ["bottleneck", *needed, "hbm_capacity", "hbm_bandwidth", "peak_flops", "bytes_per_element"]
    dataset = sg.sweep(**small, outputs=outputs)
    order = list(small["axes"])
    found = dataset.bottleneck.transpose(*order)
    assert found.shape == tuple(len(labels) for labels in small["axes"].values())
    seen = set()
    for labels in itertools.product(*small["axes"].values()):
        place = dict(zip(order, labels, strict=True))
        one = dataset.sel(place)
        label = _slowly({name: float(one[name]) for name in (*outputs[1:],)} | place)
        assert BOTTLENECKS[int(found.sel(place))] == label, place
        seen.add(label)
    assert seen == set(BOTTLENECKS) - {"interconnect"}


def _slowly(x: dict[str, Any]) -> str:
    """Fill the memory request by request, then compare the three times of a step with 50 % of the peak."""
    weights = x["parameters"] * x["bytes_per_element"]
    slots = 0
    while slots < x["seq_len"]:
        slots += x["page_size"]
    cached = x["kv_latent_dim"] or 2 * x["kv_heads"] * x["head_dim"]
    cache = x["attention_layers"] * cached * x["bytes_per_element"] * slots
    running, used = 0, weights
    while running < x["max_batch_size"]:
        if used + cache > x["hbm_capacity"]:
            return "memory_capacity"
        running, used = running + 1, used + cache
    arithmetic = 2 * x["active_parameters"] * running / (0.5 * x["peak_flops"])
    if arithmetic > used / x["hbm_bandwidth"]:
        return "compute"
    return "batch_limit" if weights > used - weights else "memory_bandwidth"


def test_the_batch_limit_binds_where_more_requests_buy_more_than_half_of_their_share() -> None:
    batch = list(range(1, 150))
    values = {name: value for name, value in POINT.items() if name != "max_batch_size"}
    sweep: dict[str, Any] = {"axes": {"max_batch_size": batch}, "values": values}
    bottleneck = sg.sweep(**sweep, outputs=["bottleneck"]).bottleneck
    assert set(bottleneck.values.tolist()) == {1, 4}
    continuous = sg.sweep(**sweep, outputs=["weight_read_time", "kv_read_time"])
    share = 1 / (1 + np.array(batch) * (continuous.kv_read_time / continuous.weight_read_time).item())
    np.testing.assert_array_equal(bottleneck == 4, share > 0.5)


def test_the_default_outputs_are_what_they_were() -> None:
    assert "bottleneck" not in sg.CONTINUOUS_BATCHING.outputs
    assert "bottleneck" not in sg.sweep(values=POINT)


# How a label is kept.


def labelled(small: dict[str, Any], **keywords: Any) -> xr.Dataset:
    return sg.sweep(**small, outputs=["bottleneck", "throughput"], **keywords)


def test_a_label_is_a_code_whose_attributes_say_what_it_means(small: dict[str, Any]) -> None:
    bottleneck = labelled(small).bottleneck
    assert bottleneck.dtype == np.int8
    assert bottleneck.attrs == {
        "long_name": "which term binds",
        "source": "definition",
        "flag_values": [0, 1, 2, 3, 4],
        "flag_meanings": "memory_capacity memory_bandwidth compute interconnect batch_limit",
    }


def test_lazy_single_precision_and_in_memory_are_the_same(small: dict[str, Any]) -> None:
    usual = labelled(small)
    assert_same_bits(labelled(small, chunks={"model": 1, "seq_len": 2}).compute(), usual)
    single = labelled(small, dtype="float32")
    assert single.bottleneck.dtype == np.int8
    np.testing.assert_array_equal(single.bottleneck, usual.bottleneck)


def test_a_store_holds_labels(small: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "labels.zarr"
    words = {**small, "outputs": ["bottleneck", "throughput"], "where": "bottleneck != 'memory_capacity'"}
    sg.run(out=out, **words)
    with xr.open_zarr(out) as stored:
        assert_same_bits(stored.compute(), sg.sweep(**words))
    assert sg.verify(out, everything=True).is_good


def test_a_store_notices_that_codes_have_changed(small: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "labels.zarr"
    words = {**small, "outputs": ["bottleneck", "throughput"]}
    sg.run(out=out, **words)
    declared = quantity_of(sg.CONTINUOUS_BATCHING.equations["bottleneck"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(declared.__dict__, "labels", BOTTLENECKS[::-1])
        with pytest.raises(sg.InputError, match="the equation of bottleneck differs"):
            sg.run(out=out, **words)


# How people read and write it.


def test_an_expression_compares_a_label_with_its_text(small: dict[str, Any]) -> None:
    dataset = sg.sweep(
        **small,
        outputs=["bottleneck"],
        derive={"again": "bottleneck", "paid": "1 if 'compute' == again else 0"},
        where="bottleneck != 'batch_limit' and bottleneck != 0",
    )
    np.testing.assert_array_equal(dataset.selected, ~dataset.bottleneck.isin([4, 0]))
    np.testing.assert_array_equal(dataset.paid, dataset.bottleneck == 2)
    np.testing.assert_array_equal(dataset.again, dataset.bottleneck)
    assert dataset.again.dtype == np.int8
    assert dataset.again.attrs["flag_meanings"] == dataset.bottleneck.attrs["flag_meanings"]


ALL = "memory_capacity, memory_bandwidth, compute, interconnect, batch_limit"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"where": "bottleneck == 'x'"}, f"where: got 'x' in bottleneck == 'x', expected one of {ALL}"),
        (
            {"where": "itl == 'compute'"},
            "where: got 'compute' in itl == 'compute', expected a number, as itl has no labels",
        ),
        ({"where": "bottleneck < 'compute'"}, "where: got 'compute', expected a number"),
        ({"where": "nan == 'compute'"}, "where: got 'compute', expected a number"),
        ({"where": "'a' == 'b'"}, "where: got 'a', expected a number"),
        ({"where": "bottleneck"}, "where: got 'bottleneck', expected a comparison such as 'ttft <= 0.5'"),
        ({"derive": {"x": "bottleneck + 1"}}, "derive.x: got 'bottleneck' in 'bottleneck + 1', expected a number"),
        ({"derive": {"bottleneck": "1 + 1"}}, f"derive.bottleneck: got '1 + 1', expected one of {ALL}"),
        ({"derive": {"feasible": "bottleneck"}}, "derive.feasible: got 'bottleneck', expected true or false"),
        ({"derive": {"ttft": "bottleneck"}}, "derive.ttft: got 'bottleneck', expected a number in s, above 0"),
        (
            {"values": {**POINT, "bottleneck": 1}},
            "values.bottleneck: bottleneck is a label that is computed, and cannot be given",
        ),
        (
            {"axes": {"bottleneck": {"from": 0, "to": 1, "num": 2}}},
            "axes.bottleneck: bottleneck is a label that is computed, and cannot be given",
        ),
        (
            {"axes": {"feasible": {"from": 0, "to": 1, "num": 2}}},
            "axes.feasible: feasible is a flag that is computed, and cannot be given",
        ),
    ],
)
def test_what_a_label_is_not(words: dict[str, Any], message: str) -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.sweep(**{"values": POINT, **words})
    assert str(refusal.value) == message


def test_a_label_and_its_texts_are_declared_together() -> None:
    for wrong in ({"kind": "label"}, {"labels": ("a", "b")}):
        with pytest.raises(TypeError, match=r"^x: got kind "):
            Quantity("x", "1", "x", **wrong)


def test_people_read_the_text(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text(
        "axes: {max_batch_size: [1, 10000]}\noutputs: [throughput, bottleneck]\n"
        "where: bottleneck == 'memory_capacity'\n"
        "values: {model: llama-3.1-8b, hardware: h100-sxm, precision: fp16, seq_len: 2048}\n"
    )
    explained = CliRunner().invoke(main, ["explain", str(file)]).output
    assert "'memory_capacity' if max_active_requests < max_batch_size else 'compute' if " in explained
    assert "bottleneck == 'memory_capacity'" in explained
    printed = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path / "b.zarr")]).output
    best = printed.partition("Configurations of the best throughput")[2].splitlines()
    assert best[1].split()[-1] == "bottleneck"
    assert best[2].split()[0] == "10,000"
    assert best[2].split()[-1] == "memory_capacity"


def test_a_walkthrough_shows_the_text() -> None:
    lines = str(Walkthrough.of(load(values=POINT, outputs=["bottleneck"]))).splitlines()
    assert next(line.split()[1] for line in lines if line.startswith("bottleneck ")) == "batch_limit"
