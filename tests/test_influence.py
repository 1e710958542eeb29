"""Tornado and Sobol indices: against separate sweeps, against variances by hand; ranges; what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid.influence import sobol as sobol_module

POINT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm",
    "precision": "fp16",
    "seq_len": 8192,
    "max_batch_size": 32,
}
RANGES = {"hbm_bandwidth": ("2 TB/s", "8 TB/s"), "max_batch_size": (1, 256), "hbm_capacity": "10..80 GiB"}


def solved(output: str, **values: Any) -> float:
    return float(sg.sweep(values={**POINT, **values}, outputs=[output])[output].item())


# Tornado.


def test_the_ends_are_those_of_separate_sweeps() -> None:
    found = sg.tornado(values=POINT, output="throughput", ranges=RANGES)
    assert found.throughput.dims == ("input", "bound")
    assert found.bound.values.tolist() == ["low", "high"]
    assert found.throughput.attrs["baseline"] == solved("throughput")
    for name, low, high in (("hbm_bandwidth", 2e12, 8e12), ("max_batch_size", 1, 256), ("hbm_capacity", 10, 80)):
        ends = [end * 2**30 if name == "hbm_capacity" else end for end in (low, high)]
        assert found.value.sel(input=name).values.tolist() == ends
        assert found.throughput.sel(input=name).values.tolist() == [solved("throughput", **{name: end}) for end in ends]
    assert found.unit.sel(input="hbm_capacity").item() == "byte"


def test_the_greatest_effect_comes_first() -> None:
    found = sg.tornado(values=POINT, output="throughput", ranges=RANGES)
    assert found.input.values.tolist() == ["hbm_bandwidth", "max_batch_size", "hbm_capacity"]
    reach = np.ptp(np.column_stack([found.throughput, np.full(3, found.throughput.attrs["baseline"])]), axis=1)
    assert (np.diff(reach) <= 0).all()


def test_an_end_at_which_nothing_fits_comes_first() -> None:
    found = sg.tornado(values=POINT, output="itl", ranges=RANGES)
    assert found.input.values[0] == "hbm_capacity"
    assert np.isnan(found.itl[0]).values.tolist() == [True, False]


def test_without_ranges_all_inputs_move_by_a_fifth() -> None:
    found = sg.tornado(values=POINT, output="ttft")
    expected = {"seq_len": (6554, 9830), "peak_flops": None, "efficiency": (0.4, 0.6), "max_batch_size": (26, 38)}
    for name, ends in expected.items():
        if ends is not None:
            np.testing.assert_allclose(found.value.sel(input=name), ends, rtol=1e-14)
        assert found.ttft.sel(input=name).values.tolist() == [
            solved("ttft", **{name: end}) for end in found.value.sel(input=name).values.tolist()
        ]
    assert "hbm_bandwidth" not in found.input
    assert "kv_latent_dim" not in found.input
    half = sg.tornado(values={**POINT, "efficiency": 0.8}, output="ttft", step="50 %")
    np.testing.assert_allclose(half.value.sel(input="efficiency"), [0.4, 1])


def test_a_point_of_a_file_is_chosen_by_its_labels(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "axes: {hardware: [l4, h100-sxm], max_batch_size: [8, 32], seq_len: [8192]}\n"
        "values: {model: llama-3.1-8b, precision: fp16}\nderive: {users: throughput * itl}\n"
    )
    found = sg.tornado(file, output="users", at={"hardware": "H100-SXM", "max_batch_size": 32})
    assert found.attrs["at"] == "hardware=h100-sxm, max_batch_size=32, seq_len=8192"
    assert found.users.attrs["baseline"] == pytest.approx(32)
    expected = sg.tornado(values=POINT, output="users", derive={"users": "throughput * itl"})
    xr.testing.assert_equal(found, expected)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ranges": {"hbm_capacity": ("8 GiB", "2 GiB")}}, "ranges.hbm_capacity: got 8.58993e+09 to 2.14748e+09, "
         "expected a range that rises"),
        ({"ranges": {"hbm_capacity": "8 GiB"}}, "ranges.hbm_capacity: got '8 GiB', expected two ends, (low, high) or "
         "'low..high'"),
        ({"ranges": {"hbm_capacity": 3}}, "ranges.hbm_capacity: got 3, expected two ends, (low, high) or 'low..high'"),
        ({"ranges": {"seq_len": (1.5, 3)}}, "ranges.seq_len.low: got 1.5, expected a whole number in token, at "
         "least 1"),
        ({"ranges": {"efficiency": (0.5, 2)}, "output": "ttft"}, "ranges.efficiency.high: got 2, expected a number, "
         "above 0 and at most 1"),
        ({"ranges": {"seq_len": "1..2 s"}}, "ranges.seq_len.low: '1 s' has a unit that cannot be converted to token, "
         "expected a whole number in token, at least 1"),
        ({"ranges": {"weight_bytes": (1, 2)}}, "ranges: weight_bytes is computed; give it a value (under values) to "
         "make it an input"),
        ({"ranges": {"power": (1, 2)}}, "ranges: nothing that is asked for depends on power"),
        ({"ranges": {}}, "ranges: got none, expected one input or more"),
        ({"ranges": [1]}, "ranges: got a list, expected inputs with two ends each, {name: (low, high)}"),
        ({"output": "feasible"}, "output: feasible is true or false, expected a number"),
        ({"output": "itl", "values": {**POINT, "hbm_capacity": "1 GiB"}}, "output: itl does not exist at this point "
         "(nothing fits); choose one where it does"),
        ({"axes": {"page_size": [1, 16]}}, "got a sweep along page_size, expected one point: choose a label of each "
         "axis (at={'page_size': 1}; --at page_size=1)"),
    ],
)  # fmt: skip
def test_what_a_tornado_refuses(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.tornado(**{"values": POINT, "output": "throughput", **keywords})
    assert str(refusal.value) == message


@settings(max_examples=20)
@given(st.integers(1, 10**5), st.integers(1, 300), st.floats(0.1, 1), st.floats(0.01, 0.9))
def test_a_tornado_keeps_to_bounds_and_whole_numbers(length: int, batch: int, efficiency: float, step: float) -> None:
    values = {**POINT, "seq_len": length, "max_batch_size": batch, "efficiency": efficiency}
    found = sg.tornado(values=values, output="ttft", step=step)
    for name in found.input.values.tolist():
        quantity = sg.CONTINUOUS_BATCHING.quantity(name)
        low, high = found.value.sel(input=name).values.tolist()
        assert quantity.accepts(low)
        assert quantity.accepts(high)
        assert low <= high
    base = found.ttft.attrs["baseline"]
    ends = found.ttft.sel(input="peak_flops")
    assert ends[1] < base < ends[0]


# Sobol indices.


def shares(expression: str, ranges: dict[str, Any], **keywords: Any) -> xr.Dataset:
    """Of an expression of inputs of one's own."""
    values = dict.fromkeys(ranges, 1)
    return sg.sobol(values=values, derive={"y": expression}, outputs=["y"], output="y", ranges=ranges, **keywords)


def test_a_product_by_hand() -> None:
    """Uniform a in 1..3, b in 0..4: variances 4/3 and 16/3 alone, 4/9 together, of 64/9."""
    found = shares("a * b", {"a": (1, 3), "b": (0, 4)}, samples=2**14)
    assert found.input.values.tolist() == ["b", "a"]
    np.testing.assert_allclose(found.first_order, [0.75, 0.1875], atol=4e-3)
    np.testing.assert_allclose(found.total_order, [0.8125, 0.25], atol=4e-3)
    assert found.attrs["mean"] == pytest.approx(4, rel=1e-3)
    assert found.attrs["standard_deviation"] == pytest.approx(8 / 3, rel=1e-3)
    # The intervals hold the truth, and are not much wider than they need to be.
    for order, truth in (("first_order", [0.75, 0.1875]), ("total_order", [0.8125, 0.25])):
        interval = found[f"{order}_interval"]
        assert (interval.sel(bound="low") < truth).all()
        assert (interval.sel(bound="high") > truth).all()
        assert (interval.sel(bound="high") - interval.sel(bound="low") < 0.06).all()


def test_the_shares_of_a_sum_add_up_to_one() -> None:
    """Variances 1/12, 4/12 and 9/12 (c counts 1 to 4: 15/12 instead of that)."""
    found = shares("a + 2 * b + 3 * c", {"a": (0, 1), "b": (0, 1), "c": (0, 1)}, samples=2**13)
    found = found.sel(input=["a", "b", "c"])
    np.testing.assert_allclose(found.first_order, np.array([1, 4, 9]) / 14, atol=5e-3)
    np.testing.assert_allclose(found.total_order, np.array([1, 4, 9]) / 14, atol=5e-3)
    assert float(found.first_order.sum()) == pytest.approx(1, abs=5e-3)


def test_logarithms_of_logarithmic_inputs_are_uniform() -> None:
    """log a over a width of 2 and log b over one of 1: variances 4/12 and 1/12."""
    ranges = {"a": (1, math.e**2), "b": (1, math.e)}
    found = shares("log(a * b)", ranges, log=True, samples=2**13).sel(input=["a", "b"])
    np.testing.assert_allclose(found.first_order, [0.8, 0.2], atol=4e-3)
    one = shares("log(a) + b", ranges, log=["a"], samples=2**13).sel(input=["a", "b"])
    variances = np.array([4, (math.e - 1) ** 2])
    np.testing.assert_allclose(one.first_order, variances / variances.sum(), atol=4e-3)
    assert one.attrs["logarithmic"] == "a"


def test_counts_are_whole_and_as_likely_as_each_other() -> None:
    """Of 1 to 4 requests the variance is 15/12; of an input of width 1, 1/12."""
    values = {"max_batch_size": 1, "a": 1}
    found = sg.sobol(
        values=values, derive={"y": "max_batch_size + a"}, outputs=["y"], output="y", samples=2**13,
        ranges={"max_batch_size": (1, 4), "a": (0, 1)},
    )  # fmt: skip
    np.testing.assert_allclose(found.first_order, [15 / 16, 1 / 16], atol=5e-3)
    wholes = sg.sobol(
        values=values, derive={"y": "floor(max_batch_size) - max_batch_size + a"}, outputs=["y"], output="y",
        ranges={"max_batch_size": (1, 4), "a": (0, 1)},
    )  # fmt: skip
    np.testing.assert_allclose(wholes.sel(input="max_batch_size").total_order, 0, atol=1e-12)


def test_samples_are_the_solvers_own_results() -> None:
    """Bandwidth multiplies throughput: the share of the rest follows from means and variances by sweeps."""
    ranges = {"hbm_bandwidth": ("2 TB/s", "8 TB/s"), "max_batch_size": (1, 128)}
    found = sg.sobol(values=POINT, output="throughput", ranges=ranges, samples=2**13)
    batches = {name: value for name, value in POINT.items() if name != "max_batch_size"}
    y = sg.sweep(axes={"max_batch_size": range(1, 129)}, values=batches, outputs=["throughput"]).throughput.values
    per_bandwidth = y / 3.35e12
    mean, variance = per_bandwidth.mean(), per_bandwidth.var()
    width_mean, width_variance = 5e12, (6e12) ** 2 / 12
    parts = np.array([mean**2 * width_variance, width_mean**2 * variance])
    total = parts.sum() + variance * width_variance
    found = found.sel(input=["hbm_bandwidth", "max_batch_size"])
    np.testing.assert_allclose(found.first_order, parts / total, atol=6e-3)
    np.testing.assert_allclose(found.total_order, 1 - parts[::-1] / total, atol=6e-3)
    assert found.attrs["mean"] == pytest.approx(mean * width_mean, rel=2e-3)


def test_throughput_is_zero_where_nothing_fits_and_counts_as_such() -> None:
    found = sg.sobol(values=POINT, output="throughput", ranges=RANGES)
    assert found.total_order.sel(input="hbm_capacity") > 0.1


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again, other = (sg.sobol(values=POINT, output="ttft", ranges=_TTFT, samples=64, seed=s) for s in (7, 7, 8))
    xr.testing.assert_identical(first, again)
    assert not first.equals(other)
    threaded = sg.sobol(values=POINT, output="ttft", ranges=_TTFT, samples=64, seed=7, threads=3)
    xr.testing.assert_identical(first, threaded)


_TTFT = {"peak_flops": "500..1000 TFLOP/s", "seq_len": (1000, 2000)}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ranges": {"hbm_bandwidth": (1, 2)}}, "ranges: got 1, expected two inputs or more: one alone accounts for "
         "everything"),
        ({"samples": 1000}, "samples: got 1000, expected a power of 2, such as 1024"),
        ({"samples": True}, "samples: got true, expected a power of 2, such as 1024"),
        ({"samples": 0}, "samples: got 0, expected a power of 2, such as 1024"),
        ({"seed": -1}, "seed: got -1, expected a whole number, at least 0"),
        ({"log": ["x"]}, "log: 'x' has no range, expected one of hbm_bandwidth, max_batch_size, hbm_capacity"),
        ({"log": True, "ranges": {"dispatch_time": (0, 1), "seq_len": (1, 2)}, "output": "ttft"}, "log: dispatch_time "
         "begins at 0, expected a range above 0"),
        ({"output": "itl"}, "output: itl does not exist at "),
        ({"output": "max_active_requests", "ranges": {"hbm_capacity": "70..80 GiB", "seq_len": (1, 9)}},
         "output: max_active_requests is 32 at all 4,096 points, expected one that varies"),
    ],
)  # fmt: skip
def test_what_sobol_refuses(keywords: dict[str, Any], message: str) -> None:
    words = {"values": POINT, "output": "throughput", "ranges": RANGES, **keywords}
    with pytest.raises(sg.InputError) as refusal:
        sg.sobol(**words)
    assert str(refusal.value).startswith(message)


def test_points_that_do_not_exist_are_counted() -> None:
    """Of 1 to 80 GiB, llama-3.1-8b needs 14.96 for its weights and 1 for a request."""
    ranges = {"hbm_capacity": "1..80 GiB", "hbm_bandwidth": "2..8 TB/s"}
    with pytest.raises(
        sg.InputError, match=r" of 4,096 sampled points \(nothing fits there\), expected ranges "
    ) as told:
        sg.sobol(values=POINT, output="itl", ranges=ranges)
    missing = int(str(told.value).split(" at ")[1].split(" of ")[0].replace(",", ""))
    assert missing / 4096 == pytest.approx((8030261248 * 2 / 2**30 + 1 - 1) / 79, abs=0.02)


def test_more_samples_than_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sobol_module, "physical_memory", lambda: 10_000)
    with pytest.raises(sg.MachineError, match=r"^the samples take .* choose fewer samples or inputs$"):
        sg.sobol(values=POINT, output="throughput", ranges=RANGES)
