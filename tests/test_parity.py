"""The reference, mlsysim 0.1.1: on random configurations, `solve` and the grid agree with what it says."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mlsysim.core.constants import Q_
from mlsysim.hardware.types import ComputeCore, MemoryHierarchy
from mlsysim.hardware.types import HardwareNode as ReferenceNode
from mlsysim.models.types import TransformerWorkload as ReferenceWorkload
from mlsysim.solvers import ContinuousBatchingModel as ReferenceModel

import servegrid as sg

RTOL = 1e-9
BYTES = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
OUTPUTS = [
    *("throughput", "ttft", "itl", "max_active_requests", "kv_fragmentation", "speedup_vs_static", "feasible"),
    *("kv_cache_bytes", "kv_budget", "kv_bytes_per_request"),
]


@dataclass(frozen=True)
class Point:
    """One configuration, in the words of both."""

    model: sg.TransformerWorkload
    hardware: sg.HardwareNode
    seq_len: int
    max_batch_size: int
    page_size: int
    precision: str
    efficiency: float
    unit: str = "byte"
    """In which the reference is told the memory's capacity."""

    def inputs(self) -> dict[str, float]:
        """The same as quantities of the solver, as the README's table has them."""
        peaks = self.hardware.precision_flops
        return {
            "parameters": self.model.parameters,
            "layers": self.model.layers,
            "hidden_size": self.model.hidden_dim,
            "heads": self.model.heads,
            "kv_heads": self.model.kv_heads,
            "hbm_capacity": self.hardware.memory_capacity,
            "hbm_bandwidth": self.hardware.memory_bandwidth,
            "peak_flops": peaks.get(self.precision, self.hardware.peak_flops),
            "dispatch_time": self.hardware.dispatch_tax,
            "bytes_per_element": BYTES[self.precision],
            "seq_len": self.seq_len,
            "max_batch_size": self.max_batch_size,
            "page_size": self.page_size,
            "efficiency": self.efficiency,
        }

    def solve(self) -> sg.ContinuousBatchingResult:
        arguments = {name: value for name, value in vars(self).items() if name != "unit"}
        return sg.ContinuousBatchingModel().solve(**arguments)

    def reference(self) -> Any:
        """What mlsysim says."""
        model, node = self.model, self.hardware
        workload = ReferenceWorkload(
            name=model.name,
            architecture="transformer",
            parameters=Q_(model.parameters, "count"),
            layers=model.layers,
            hidden_dim=model.hidden_dim,
            heads=model.heads,
            kv_heads=model.kv_heads,
        )
        hardware = ReferenceNode(
            name=node.name,
            release_year=2026,
            compute=ComputeCore(
                peak_flops=Q_(node.peak_flops, "flop/s"),
                precision_flops={name: Q_(peak, "flop/s") for name, peak in node.precision_flops.items()},
            ),
            memory=MemoryHierarchy(
                capacity=Q_(node.memory_capacity, "byte").to(self.unit),
                bandwidth=Q_(node.memory_bandwidth, "byte/s"),
            ),
            dispatch_tax=Q_(node.dispatch_tax, "s"),
        )
        return ReferenceModel().solve(
            workload,
            hardware,
            self.seq_len,
            self.max_batch_size,
            self.page_size,
            self.precision,
            self.efficiency,
        )

    @property
    def exact_requests(self) -> Fraction:
        """How many requests the memory holds, before rounding, in exact arithmetic."""
        one = Fraction(BYTES[self.precision])
        head_dim = self.model.hidden_dim // self.model.heads
        slots = -(-self.seq_len // self.page_size) * self.page_size
        each = 2 * self.model.layers * self.model.kv_heads * head_dim * one * slots
        return (Fraction(self.hardware.memory_capacity) - Fraction(self.model.parameters) * one) / each


def _random_model(draw: random.Random, index: int) -> sg.TransformerWorkload:
    heads = draw.choice([1, 8, 12, 16, 32, 40, 64, 96, 128])
    return sg.TransformerWorkload(
        name=f"model-{index}",
        parameters=float(round(10 ** draw.uniform(8, 12))),
        layers=draw.randint(1, 130),
        hidden_dim=heads * draw.choice([64, 80, 96, 128, 192]) + draw.choice([0, 0, 0, draw.randrange(heads)]),
        heads=heads,
        kv_heads=draw.choice([heads, max(1, heads // 4), max(1, heads // 8), 1]),
    )


def _random_node(draw: random.Random, index: int) -> sg.HardwareNode:
    precisions = draw.sample(list(BYTES), draw.randint(0, len(BYTES)))
    return sg.HardwareNode(
        name=f"node-{index}",
        peak_flops=10 ** draw.uniform(13, 16),
        precision_flops={name: 10 ** draw.uniform(13, 16.5) for name in precisions},
        memory_capacity=draw.choice([draw.randint(8, 300) * 2.0**30, draw.uniform(8e9, 3e12)]),
        memory_bandwidth=10 ** draw.uniform(11, 13.3),
        dispatch_tax=draw.choice([0.0, 1e-5, draw.uniform(0, 1e-2)]),
    )


def _random_point(draw: random.Random, index: int) -> Point:
    return Point(
        model=_random_model(draw, index),
        hardware=_random_node(draw, index),
        seq_len=round(10 ** draw.uniform(0, 6)),
        max_batch_size=round(10 ** draw.uniform(0, 4)),
        page_size=draw.choice([1, 8, 16, 17, 32, 64, 100, 256, 4096]),
        precision=draw.choice(list(BYTES)),
        efficiency=draw.uniform(0.01, 1),
    )


def _knife_edge(draw: random.Random, index: int) -> Point:
    """A memory that holds a whole number of requests to the byte, where rounding decides.

    The reference is told gigabytes, as its own catalogue has them, and converts.
    """
    point = _random_point(draw, index)
    used = point.model.parameters * BYTES[point.precision]
    each = (point.hardware.memory_capacity - used) / float(point.exact_requests)
    node = vars(point.hardware) | {"memory_capacity": used + draw.randint(1, 50) * each}
    return replace(point, hardware=sg.HardwareNode(**node), max_batch_size=100, unit="GB")


def _dense() -> tuple[dict[str, Sequence[Any]], list[Point]]:
    """A grid of 1,000 points over random models and nodes, and its points in the grid's order."""
    draw = random.Random(27)
    axes: dict[str, Sequence[Any]] = {
        "shape": [_random_model(draw, index) for index in range(5)],
        "device": [_random_node(draw, index) for index in range(5)],
        "seq_len": [100, 2000, 4096, 20_000, 131_072],
        "max_batch_size": [1, 64],
        "page_size": [16, 100],
        "precision": ["fp16", "int4"],
    }
    return axes, [Point(*(*point, 0.4)) for point in product(*axes.values())]


DRAW = random.Random(1)
RANDOM = [_random_point(DRAW, index) for index in range(900)] + [_knife_edge(DRAW, i) for i in range(100)]
AXES, DENSE = _dense()


@pytest.fixture(scope="module")
def as_cases() -> xr.Dataset:
    """The random configurations as one sweep over cases."""
    cases = pd.DataFrame([point.inputs() for point in RANDOM])
    return sg.sweep(cases=cases, outputs=OUTPUTS)


@pytest.fixture(scope="module")
def as_grid() -> xr.Dataset:
    """The dense grid as one sweep with tables, flattened to one row for each point."""
    shape, device = ({item.name: item for item in AXES[name]} for name in ("shape", "device"))
    values: dict[str, Any] = {"efficiency": 0.4}
    for quantity, field in {
        "parameters": "parameters",
        "layers": "layers",
        "hidden_size": "hidden_dim",
        "heads": "heads",
        "kv_heads": "kv_heads",
    }.items():
        values[quantity] = {"shape": {name: getattr(model, field) for name, model in shape.items()}}
    for quantity, field in {
        "hbm_capacity": "memory_capacity",
        "hbm_bandwidth": "memory_bandwidth",
        "dispatch_time": "dispatch_tax",
    }.items():
        values[quantity] = {"device": {name: getattr(node, field) for name, node in device.items()}}
    values["peak_flops"] = {
        "device": {
            name: {
                "precision": {
                    precision: node.precision_flops.get(precision, node.peak_flops) for precision in AXES["precision"]
                }
            }
            for name, node in device.items()
        }
    }
    axes = AXES | {"shape": list(shape), "device": list(device)}
    dataset = sg.sweep(axes=axes, values=values, outputs=OUTPUTS)
    assert dict(dataset.sizes) == {name: len(labels) for name, labels in AXES.items()}
    (broadcast,) = xr.broadcast(dataset)
    return broadcast.transpose(*AXES).stack(case=list(AXES), create_index=False)


def _column(dataset: xr.Dataset, name: str) -> np.ndarray:
    return np.asarray(dataset[name].broadcast_like(dataset["throughput"]).values)


@pytest.fixture(scope="module", params=["cases", "grid"])
def compared(request: pytest.FixtureRequest) -> tuple[list[Point], list[Any], xr.Dataset]:
    """1,000 configurations, what the reference says of them, and the sweep."""
    points, fixture = (RANDOM, "as_cases") if request.param == "cases" else (DENSE, "as_grid")
    return points, [point.reference() for point in points], request.getfixturevalue(fixture)


Compared = tuple[list[Point], list[Any], xr.Dataset]


def test_there_are_a_thousand_of_either_kind(compared: Compared) -> None:
    points, references, _ = compared
    assert len(points) == 1000
    feasible = sum(reference.feasible for reference in references)
    assert 300 < feasible < 900
    assert any(r.max_active_requests < p.max_batch_size for p, r in zip(points, references, strict=True))


def _rounded_across(point: Point) -> bool:
    """Whether the exact quotient is so near a whole number that the last bit of a double decides."""
    exact = point.exact_requests
    return abs(exact - round(exact)) <= Fraction(1, 10**9)


def test_whole_numbers_are_the_same(compared: Compared) -> None:
    points, references, dataset = compared
    ours = _column(dataset, "max_active_requests")
    assert ours.dtype == np.int64
    for point, reference, found in zip(points, references, ours, strict=True):
        if found != reference.max_active_requests:
            # The reference converts units before it rounds down, and so may land on the other side.
            assert abs(found - reference.max_active_requests) == 1
            assert _rounded_across(point)
    different = np.array([r.max_active_requests for r in references]) != ours
    assert different.sum() < 0.05 * len(points)
    assert different.any() == any(point.unit == "GB" for point in points)


def test_flags_are_the_same(compared: Compared) -> None:
    points, references, dataset = compared
    for point, reference, found in zip(points, references, _column(dataset, "feasible"), strict=True):
        assert found == reference.feasible or _rounded_across(point)


def test_times_and_rates_are_the_same(compared: Compared) -> None:
    """Where the numbers of requests agree, and something fits."""
    _, references, dataset = compared
    ours = {name: _column(dataset, name) for name in OUTPUTS}
    same = np.array([r.max_active_requests for r in references]) == ours["max_active_requests"]
    fits = same & ours["feasible"]
    assert fits.sum() > 250
    expected = {
        "throughput": [r.throughput_tokens_per_sec for r in references],
        "itl": [r.itl.m_as("s") for r in references],
        "speedup_vs_static": [r.speedup_vs_static for r in references],
        "kv_cache_bytes": [r.paged_kv_cache_size.m_as("byte") for r in references],
        "kv_fragmentation": [r.memory_fragmentation_pct for r in references],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(ours[name][fits], np.array(numbers)[fits], rtol=RTOL, atol=1e-15, err_msg=name)


def test_the_time_to_the_first_token_is_the_same_everywhere(compared: Compared) -> None:
    _, references, dataset = compared
    expected = [reference.ttft.m_as("s") for reference in references]
    np.testing.assert_allclose(_column(dataset, "ttft"), expected, rtol=RTOL)


def test_what_does_not_fit_is_nan_where_the_reference_has_placeholders(compared: Compared) -> None:
    """The reference reports an ITL of 1e6 ms (or of an empty batch) and a speedup of 1; neither exists."""
    _, references, dataset = compared
    ours = {name: _column(dataset, name) for name in OUTPUTS}
    nothing = [index for index, r in enumerate(references) if not (r.feasible or ours["feasible"][index])]
    assert len(nothing) > 100
    for index in nothing:
        reference = references[index]
        assert reference.speedup_vs_static == 1
        assert reference.throughput_tokens_per_sec == ours["throughput"][index] == 0
        assert math.isnan(ours["itl"][index])
        assert math.isnan(ours["speedup_vs_static"][index])
        if ours["kv_budget"][index] <= 0:
            assert reference.itl.m_as("ms") == 1e6


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def test_one_point_and_the_grid_agree_bit_for_bit(compared: Compared) -> None:
    points, references, dataset = compared
    columns = {name: _column(dataset, name) for name in OUTPUTS}
    for index, (point, reference) in enumerate(zip(points, references, strict=True)):
        grid: Mapping[str, Any] = {name: column[index].item() for name, column in columns.items()}
        one = point.solve()
        assert one.feasible is grid["feasible"]
        assert one.max_active_requests == grid["max_active_requests"]
        assert _same(one.throughput_tokens_per_sec, grid["throughput"])
        assert _same(one.itl, grid["itl"])
        assert _same(one.ttft, grid["ttft"])
        assert _same(one.speedup_vs_static, grid["speedup_vs_static"])
        assert _same(one.paged_kv_cache_size, grid["kv_cache_bytes"])
        # The reference calls it none where the weights alone are too large; the grid gives what a request wastes.
        assert one.memory_fragmentation_pct == (grid["kv_fragmentation"] if grid["kv_budget"] > 0 else 0)
        assert one.memory_fragmentation_pct == pytest.approx(reference.memory_fragmentation_pct, rel=RTOL)


@pytest.mark.parametrize("spelling", ["fp8", "FP8", "float8"])
def test_a_precision_computes_at_its_own_peak_however_it_is_spelt(spelling: str) -> None:
    point = next(point for point in RANDOM if "fp8" in point.hardware.precision_flops)
    solve = sg.ContinuousBatchingModel().solve
    assert solve(point.model, point.hardware, 1000, precision=spelling) == solve(
        point.model, point.hardware, 1000, precision="fp8"
    )
    reference = Point(point.model, point.hardware, 1000, 1, 16, "fp8", 0.5).reference()
    ttft = solve(point.model, point.hardware, 1000, precision=spelling).ttft
    assert ttft == pytest.approx(reference.ttft.m_as("s"), rel=RTOL)


def test_names_of_the_catalogue_stand_for_their_figures() -> None:
    by_name = sg.ContinuousBatchingModel().solve("llama-3.1-8b", "h100-sxm", 8192, max_batch_size=64)
    dataset = sg.sweep(
        values={
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm",
            "precision": "fp16",
            "seq_len": 8192,
            "max_batch_size": 64,
        }
    )
    assert by_name.throughput_tokens_per_sec == dataset.throughput.item()
    assert by_name.ttft == dataset.ttft.item()
    assert by_name.speedup_vs_static == dataset.speedup_vs_static.item()
    catalog = sg.Catalog.default()
    shape, node = catalog.model("llama-3.1-8b").architecture, catalog.accelerator("h100-sxm")
    reference = Point(
        sg.TransformerWorkload("llama", shape.parameters, shape.layers, shape.hidden_size, shape.heads, shape.kv_heads),
        sg.HardwareNode(
            "h100",
            node.base_peak_flops,
            memory_capacity=node.memory_capacity,
            memory_bandwidth=node.memory_bandwidth,
        ),
        *(8192, 64, 16, "fp16", 0.5),
    ).reference()
    assert by_name.throughput_tokens_per_sec == pytest.approx(reference.throughput_tokens_per_sec, rel=RTOL)
    assert by_name.ttft == pytest.approx(reference.ttft.m_as("s"), rel=RTOL)


@pytest.mark.parametrize(
    ("model", "hardware", "arguments", "message"),
    [
        ({}, {}, {"seq_len": 0}, "solve: seq_len: got 0, expected a whole number in token, at least 1"),
        ({}, {}, {"seq_len": 10.5}, "solve: seq_len: got 10.5, expected a whole number in token, at least 1"),
        (
            {},
            {},
            {"seq_len": 9, "efficiency": 1.5},
            "solve: efficiency: got 1.5, expected a number, above 0 and at most 1",
        ),
        (
            {},
            {"memory_capacity": math.nan},
            {"seq_len": 9},
            "HardwareNode h: memory_capacity: got nan, expected a number in byte, above 0",
        ),
        (
            {"layers": -1},
            {},
            {"seq_len": 9},
            "TransformerWorkload t: layers: got -1, expected a whole number, at least 1",
        ),
        (
            {},
            {},
            {"seq_len": 9, "precision": "fp15"},
            "unknown precision 'fp15' (did you mean fp16?); 'servegrid catalog list precisions' shows all 17",
        ),
    ],
)
def test_bad_input_of_one_point_is_refused_in_one_sentence(
    model: dict[str, Any], hardware: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    shape = {"parameters": 1e9, "layers": 10, "hidden_dim": 1024, "heads": 8, "kv_heads": 8}
    device = {"peak_flops": 1e15, "memory_capacity": 80e9, "memory_bandwidth": 3e12}
    with pytest.raises(sg.InputError) as refusal:
        sg.ContinuousBatchingModel().solve(
            sg.TransformerWorkload("t", **shape | model), sg.HardwareNode("h", **device | hardware), **arguments
        )
    assert message in str(refusal.value)
    assert len(str(refusal.value)) <= len(message) + 40


def test_a_model_with_heads_of_no_width_is_refused() -> None:
    model = sg.TransformerWorkload("t", 1e9, 10, hidden_dim=8, heads=16, kv_heads=16)
    node = sg.HardwareNode("h", 1e15, memory_capacity=80e9, memory_bandwidth=3e12)
    with pytest.raises(sg.InputError, match="head"):
        sg.ContinuousBatchingModel().solve(model, node, 1000)
