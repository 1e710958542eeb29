"""Elasticities: against formulas by hand, against a slow loop over the equations, as properties; what is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import servegrid as sg
from servegrid.api import load
from servegrid.evaluate import Evaluator
from servegrid.influence import elasticity
from servegrid.influence.changes import changed, ends, within
from servegrid.parameters import gather
from servegrid.quantity import COUNT, POSITIVE, SHARE, Bounds, Quantity

POINT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm",
    "precision": "fp16",
    "seq_len": 8192,
    "max_batch_size": 32,
}
SMALLEST = 1e-6


def at_point(**keywords: Any) -> xr.Dataset:
    return sg.sensitivity(values=POINT, **keywords)


# By hand.


def test_bandwidth_buys_throughput_one_to_one() -> None:
    found = at_point(outputs=["throughput", "itl", "ttft"], inputs=["hbm_bandwidth"], step=0.5)
    assert found.throughput.item() == pytest.approx(1, rel=1e-14)
    assert found.itl.item() == pytest.approx(-1, rel=1e-14)
    assert found.ttft.item() == 0


def test_compute_buys_the_first_token_but_for_the_launch() -> None:
    whole = sg.sweep(values=POINT, outputs=["ttft"]).ttft.item()
    share = (whole - 1e-5) / whole
    found = at_point(outputs="ttft", inputs=["peak_flops", "efficiency", "dispatch_time"], step=SMALLEST).ttft
    assert found.sel(input="peak_flops").item() == pytest.approx(-share, rel=1e-5)
    assert found.sel(input="dispatch_time").item() == pytest.approx(1 - share, rel=1e-3)
    exact = math.log((whole - 1e-5) / 1.1 + 1e-5) - math.log(whole)
    assert at_point(outputs="ttft", inputs="peak_flops").ttft.item() == pytest.approx(exact / math.log(1.1), rel=1e-12)
    no_launch = sg.sensitivity(values={**POINT, "dispatch_time": 0}, outputs="ttft", inputs=["peak_flops"])
    assert no_launch.ttft.item() == pytest.approx(-1, rel=1e-13)


def test_terms_of_a_sum_share_one() -> None:
    read = sg.sweep(values=POINT, outputs=["weight_read_time", "itl"])
    weights = (read.weight_read_time / read.itl).item()
    found = at_point(outputs="itl", inputs=["parameters"], step=SMALLEST).itl
    assert found.item() == pytest.approx(weights, rel=1e-5)
    # A request more, from 32 to 35: the ratio really taken counts.
    batch = at_point(outputs="itl", inputs=["max_batch_size"])
    assert batch.changed.item() == 35
    assert batch.itl.item() == pytest.approx(math.log(weights + (1 - weights) * 35 / 32) / math.log(35 / 32), rel=1e-12)


def test_doubling_bytes_and_bandwidth_changes_nothing() -> None:
    """The elasticities of a function without units add up to 0 over what carries bytes."""
    found = at_point(outputs="itl", inputs=["bytes_per_element", "hbm_bandwidth", "hbm_capacity"], step=0.25).itl
    assert float(found.sum()) == pytest.approx(0, abs=1e-13)


def test_memory_that_does_not_bind_buys_nothing_and_memory_that_does_buys_whole_requests() -> None:
    assert at_point(outputs="throughput", inputs=["hbm_capacity"]).throughput.item() == 0
    full = {**POINT, "max_batch_size": 10_000}
    before, after = (
        sg.sweep(values={**full, "hbm_capacity": capacity}, outputs=["max_active_requests"]).max_active_requests.item()
        for capacity in (80 * 2**30, 88 * 2**30)
    )
    assert after > before
    found = sg.sensitivity(values=full, outputs="max_active_requests", inputs="hbm_capacity")
    assert found.max_active_requests.item() == pytest.approx(math.log(after / before) / math.log(1.1), rel=1e-12)
    tiny = sg.sensitivity(values=full, outputs="max_active_requests", inputs="hbm_capacity", step=SMALLEST)
    assert tiny.max_active_requests.item() == 0


def test_derived_quantities_and_inputs_of_ones_own() -> None:
    found = sg.sensitivity(
        values={**POINT, "a": 3, "b": 4},
        derive={"product": "a ** 2 * b", "loss": "-a * b"},
        outputs=["product", "loss"],
    )
    found = found.sel(input=["a", "b"])
    np.testing.assert_allclose(found["product"], [2, 1], rtol=1e-13)
    np.testing.assert_allclose(found.loss, [1, 1], rtol=1e-13)  # of the amount: twice the loss is 100 % more of it


# A slow loop.


def test_a_slow_loop_over_the_equations_agrees(small: dict[str, Any]) -> None:
    small["axes"] |= {"seq_len": [1000, 131072], "page_size": [16, 300]}
    outputs = ["throughput", "ttft", "itl", "max_active_requests", "kv_fragmentation", "speedup_vs_static"]
    found = sg.sensitivity(**small, outputs=outputs, step="10 %")
    parameters = gather(load(**small, outputs=outputs))
    names = found.input.values.tolist()
    assert {*names, "kv_latent_dim"} == set(parameters.graph.inputs)
    for labels in itertools.product(*small["axes"].values()):
        place = dict(zip(small["axes"], labels, strict=True))
        inputs = {name: float(_at(parameters.dataset[name], place)) for name in (*names, "kv_latent_dim")}
        for name in names:
            expected = _slowly(inputs, name, outputs)
            for output in outputs:
                value = float(_at(found[output].sel(input=name), place))
                assert value == pytest.approx(expected[output], rel=1e-9, abs=1e-12, nan_ok=True), (place, name, output)


def _at(array: xr.DataArray, place: dict[str, Any]) -> xr.DataArray:
    return array.sel({axis: label for axis, label in place.items() if axis in array.dims})


COUNTS = ("layers", "heads", "kv_heads", "kv_latent_dim", "head_dim", "attention_layers", "hidden_size", "seq_len",
          "max_batch_size", "page_size")  # fmt: skip


def _slowly(inputs: dict[str, float], name: str, outputs: list[str]) -> dict[str, float]:
    value = inputs[name]
    other = value * 1.1
    if name in COUNTS:
        other = max(value + 1, float(round(other)))
    before, after = _solve(inputs), _solve({**inputs, name: other})
    found = {}
    for output in outputs:
        y, z = before[output], after[output]
        exists = value != 0 and y == y and z == z and y * z > 0
        same = _needs_not(output, name) and y == y and y != 0
        found[output] = 0.0 if same else math.log(z / y) / math.log(other / value) if exists else math.nan
    return found


# The catalogue's own figures replace these equations.
FACTS = ("head_dim", "attention_layers", "active_parameters")


def _needs_not(output: str, name: str) -> bool:
    if output == name:
        return False
    known = output in FACTS or output not in sg.CONTINUOUS_BATCHING.equations
    return known or all(_needs_not(need, name) for need in _arguments(output))


def _arguments(name: str) -> list[str]:
    code = sg.CONTINUOUS_BATCHING.equations[name].__code__
    return list(code.co_varnames[: code.co_argcount])


def _solve(inputs: dict[str, float]) -> dict[str, float]:
    """All quantities, each by a call of its equation once its arguments are known."""
    found = dict(inputs)
    laws: dict[str, Callable[..., float]] = dict(sg.CONTINUOUS_BATCHING.equations)
    left = [name for name in laws if name not in found]
    while left:
        ready = [name for name in left if all(need in found for need in _arguments(name))]
        if not ready:
            break
        for name in ready:
            found[name] = float(laws[name](**{need: found[need] for need in _arguments(name)}))
        left = [name for name in left if name not in ready]
    return found


def test_a_grid_is_its_points(small: dict[str, Any]) -> None:
    grid = sg.sensitivity(**small)
    for place in ({"model": "llama-3.1-8b", "hardware": "l4"}, {"seq_len": "8192 tokens", "precision": "int4"}):
        part = sg.sensitivity(**small, at=place)
        chosen = {axis: 8192 if axis == "seq_len" else label for axis, label in place.items()}
        for name, variable in part.data_vars.items():
            there = {axis: label for axis, label in chosen.items() if axis in grid[name].dims}
            np.testing.assert_array_equal(variable, grid[name].sel(there), err_msg=str(name))
        assert part.attrs["at"] == ", ".join(f"{axis}={label}" for axis, label in chosen.items())


def test_a_place_is_told_as_people_write_it() -> None:
    axes = {"hbm_capacity": ["80 GiB", "96 GiB"], "efficiency": [0.5], "seq_len": [8192, 9000]}
    values = {name: value for name, value in POINT.items() if name != "seq_len"}
    at = {"hbm_capacity": "80 GiB", "seq_len": 8192, "efficiency": "50 %"}
    found = sg.sensitivity(axes=axes, values=values, outputs=["throughput", "ttft"], inputs=["seq_len"], at=at)
    assert found.attrs["at"] == "hbm_capacity=80 GiB, seq_len=8192, efficiency=0.5"
    assert found.ttft.dims == ("input",)
    sites = {"efficiency": {"site": {1: 0.5, 2: 0.4}}}
    own = sg.sensitivity(axes={"site": [1, 2]}, values={**POINT, **sites}, outputs="ttft", at={"site": 2})
    assert own.attrs["at"] == "site=2"
    assert own.value.sel(input="efficiency").item() == 0.4


# What does not exist.


def test_nothing_is_said_where_nothing_fits_before_or_after() -> None:
    """70B at 16 bit is 141 GB: with 130 GiB of memory the weights fit no more once they grow."""
    values = {**POINT, "model": "llama-3.1-70b", "max_batch_size": 1, "seq_len": 16}
    axes = {"hbm_capacity": ["80 GiB", "140 GiB", "192 GiB"]}
    found = sg.sensitivity(axes=axes, values=values, outputs=["throughput", "itl", "ttft"], inputs=["parameters"])
    assert found.feasible.values.tolist() == [False, True, True]
    assert found.feasible_after.values.tolist() == [[False, False, True]]
    for output in ("throughput", "itl"):
        assert np.isnan(found[output].values).tolist() == [[True, True, False]]
    assert found.ttft.dims == ("input",)  # it does not depend on the capacity, and exists where nothing fits


def test_zero_has_no_percent() -> None:
    assert "kv_latent_dim" not in at_point().input
    found = at_point(inputs=["kv_latent_dim"], outputs=["itl", "ttft"])
    assert np.isnan(found.itl.item())
    assert np.isnan(found.changed.item())
    assert found.feasible_after.item()
    assert found.ttft.item() == 0


def test_unknown_prices_are_left_out() -> None:
    axes = {"hardware": ["h100-sxm", "gaudi-3"]}
    values = {name: value for name, value in POINT.items() if name != "hardware"}
    found = sg.sensitivity(axes=axes, values=values, outputs=["cost_per_million_tokens"], inputs=["price_per_hour"])
    np.testing.assert_allclose(found.cost_per_million_tokens, [[1, np.nan]], rtol=1e-13)


def test_flags_and_labels_tell_the_state_before() -> None:
    found = at_point(outputs="throughput")
    assert found.bottleneck.item() == 1
    assert found.bottleneck.attrs["flag_meanings"].split()[1] == "memory_bandwidth"
    lone = sg.sensitivity(values={"weight_bytes": 1e9, "hbm_bandwidth": 1e12}, outputs=["weight_read_time"])
    assert list(lone.data_vars) == ["weight_read_time"]


# Changes.


@given(
    st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=5),
    st.sampled_from([0.1, 1e-3, 2.0, -0.5]),
    st.sampled_from([POSITIVE, SHARE, COUNT, Bounds(above=0, at_most=5), Bounds(at_least=3, below=7)]),
    st.sampled_from(["int", "float"]),
)
def test_a_changed_value_is_within_its_bounds_and_another_one(
    numbers: list[float], step: float, bounds: Bounds, kind: Any
) -> None:
    quantity = Quantity("x", "1", "x", kind=kind, bounds=bounds)
    values = np.array([np.ceil(number) if kind == "int" else number for number in numbers])
    for value, other in zip(values, changed(values, quantity, step), strict=True):
        if not math.isnan(other):
            assert other in bounds
            assert quantity.accepts(other)
            assert other != value
            assert kind == "int" or max(other / value, value / other) == pytest.approx(max(1 + step, 1 / (1 + step)))
        elif kind == "float":
            assert value * (1 + step) not in bounds
            assert value / (1 + step) not in bounds
    assert within(values, bounds).tolist() == [value in bounds for value in values]


def test_whole_numbers_and_limits() -> None:
    page = Quantity("page_size", "token", "", kind="int", bounds=COUNT)
    assert changed(np.array([1.0, 16, 300]), page, 0.1).tolist() == [2, 18, 330]
    assert changed(np.array([1.0, 16, 300]), page, -0.1).tolist() == [2, 14, 270]  # none is below 1 token
    share = Quantity("efficiency", "1", "", bounds=SHARE)
    np.testing.assert_allclose(changed(np.array([0.5, 1]), share, 0.25), [0.625, 0.8])
    assert ends(1, page, 0.2) == (1, 2)
    np.testing.assert_allclose(ends(0.9, share, 0.2), (0.72, 1))


def test_a_value_at_its_limit_is_made_smaller() -> None:
    found = sg.sensitivity(values={**POINT, "efficiency": 1, "dispatch_time": 0}, outputs="ttft", inputs="efficiency")
    assert found.value.item() == 1
    assert found.changed.item() == pytest.approx(1 / 1.1)
    assert found.ttft.item() == pytest.approx(-1, rel=1e-13)


@settings(max_examples=25)
@given(st.floats(0.01, 1), st.integers(1, 400), st.integers(1, 5000), st.floats(80, 400))
def test_what_any_configuration_has_in_common(step: float, batch: int, length: int, gib: float) -> None:
    """More bandwidth is throughput, more memory is never less of it; the step's terms have shares from 0 to 1."""
    values = {**POINT, "max_batch_size": batch, "seq_len": length, "hbm_capacity": gib * 2**30}
    found = sg.sensitivity(values=values, outputs=["throughput", "itl"], step=step)
    assert found.feasible.item()
    one = found.sel(input="hbm_bandwidth")
    assert (one.throughput.item(), one.itl.item()) == (pytest.approx(1), pytest.approx(-1))
    assert found.throughput.sel(input="hbm_capacity").item() >= -1e-12
    if batch < 20:  # all fit: the same requests share each step
        for name in ("parameters", "attention_layers", "kv_heads"):
            of_step = found.itl.sel(input=name).item()
            assert 0 < of_step < 1
            assert found.throughput.sel(input=name).item() == pytest.approx(-of_step, rel=1e-9)


# The dataset.


def test_axes_labels_and_attributes(small: dict[str, Any]) -> None:
    found = sg.sensitivity(**small, name="mine", question="Why?", outputs=["throughput", "kv_fragmentation"])
    assert found.throughput.dims == ("input", *small["axes"])
    assert found.kv_fragmentation.dims == ("input", "seq_len", "page_size")
    assert found.throughput.attrs == {"long_name": "elasticity of output tokens per second", "units": "1", "step": 0.1}
    assert (found.attrs["title"], found.attrs["question"], found.attrs["step"]) == ("mine", "Why?", 0.1)
    assert "fingerprint" not in found.attrs
    assert found.model.values.tolist() == small["axes"]["model"]
    assert found.parameters.dims == ("model",)
    nothing = found.kv_fragmentation.sel(input="hbm_bandwidth")
    assert (nothing.isnull() | (nothing == 0)).all()


def test_a_sweep_file_and_its_own_outputs(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "axes: {max_batch_size: [1, 8]}\nvalues: {model: llama-3.1-8b, hardware: l4, precision: int8, seq_len: 500}\n"
        "outputs: [itl, feasible, bottleneck]\nwhere: itl < 1\nderive: {users: throughput * itl}\ndtype: float32\n"
    )
    found = sg.sensitivity(file)
    assert set(found.data_vars) == {"itl", "users", "feasible", "bottleneck", "feasible_after"}
    assert found.itl.dtype == np.float64


def test_one_kernel_serves_all_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = set()
    original = Evaluator.grid

    def noted(self: Any, *rest: Any) -> Any:
        sources.add(self.program.source)
        return original(self, *rest)

    monkeypatch.setattr(Evaluator, "grid", noted)
    assert at_point().sizes["input"] == 15
    assert len(sources) == 1


def test_threads_do_not_change_a_bit(small: dict[str, Any]) -> None:
    xr.testing.assert_identical(
        sg.sensitivity(**small, threads=1).drop_attrs(), sg.sensitivity(**small, threads=3).drop_attrs()
    )


# What is refused.


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"outputs": ["feasible"]}, "outputs: feasible is true or false, expected a number"),
        ({"outputs": ["bottleneck"]}, "outputs: bottleneck is one of memory_capacity, memory_bandwidth, compute, "
         "interconnect, batch_limit, expected a number"),
        ({"outputs": ["page_size"]}, "outputs: page_size is an input of this sweep, expected a quantity that is "
         "computed"),
        ({"outputs": ["through"]}, "outputs: unknown quantity 'through' (did you mean throughput?), expected a "
         "quantity of the solver continuous_batching or one that is derived"),
        ({"outputs": []}, "outputs: none is a number that is computed, expected one such as throughput"),
        ({"inputs": ["hbm_bandwith"]}, "inputs: unknown input 'hbm_bandwith' (did you mean hbm_bandwidth?), expected "
         "an input of the sweep"),
        ({"inputs": ["weight_bytes"]}, "inputs: weight_bytes is computed; give it a value (under values) to make it an "
         "input"),
        ({"outputs": ["itl"], "inputs": ["peak_flops"]}, "inputs: nothing that is asked for depends on peak_flops"),
        ({"inputs": []}, "inputs: got none, expected one input or more"),
        ({"step": 0}, "step: got 0, expected a change of 1e-09 or more, such as 10%"),
        ({"step": "-100 %"}, "step: got '-100 %', expected a number, above -1"),
        ({"step": "1 GiB"}, "step: '1 GiB' has a unit that cannot be converted to 1, expected a number, above -1"),
        ({"at": {"model": "x"}}, "at: 'model' is no axis of this sweep, expected none, as this sweep is one point"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(sg.InputError) as refusal:
        at_point(**keywords)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"modell": "x"}, "at: 'modell' is no axis of this sweep (did you mean model?), expected one of model, "
         "hardware, precision, seq_len, max_batch_size, page_size"),
        ({"model": "gpt-oss-20b"}, "at.model: got 'gpt-oss-20b', expected a label of the axis: llama-3.1-8b, "
         "llama-3.1-70b"),
        ({"model": "gpt"}, "at.model: unknown model 'gpt'"),
        ({"model": 3}, "at.model: unknown model '3'"),
        ({"seq_len": 1001}, "at.seq_len: got 1001, expected a label of the axis: 1000, 8192, 131072"),
        ({"seq_len": "1 s"}, "at.seq_len: '1 s' has a unit that cannot be converted to token"),
    ],
)  # fmt: skip
def test_a_place_that_is_not_there(at: dict[str, Any], message: str, small: dict[str, Any]) -> None:
    with pytest.raises(sg.InputError) as refusal:
        sg.sensitivity(**small, at=at)
    assert str(refusal.value).startswith(message)


def test_an_axis_of_the_name_of_the_results_own() -> None:
    table = {"efficiency": {"input": {"a": 0.5, "b": 0.4}}}
    with pytest.raises(
        sg.InputError, match=r"^axes\.input: the result has an axis of that name, expected another one$"
    ):
        sg.sensitivity(axes={"input": ["a", "b"]}, values={**POINT, **table}, outputs=["ttft"])


def test_a_grid_too_large_for_the_memory(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elasticity, "physical_memory", lambda: 30_000)
    with pytest.raises(sg.MachineError) as refusal:
        sg.sensitivity(**small)
    assert str(refusal.value).startswith("the elasticities take ")
    assert str(refusal.value).endswith("choose fewer inputs or outputs, or a part of the grid (at)")
