"""Pictures show what the dataset holds: heights, hatches, stairs, labels with units; and can be told apart."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PatchCollection, QuadMesh
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pictures import axes_of, data_of, legend_of, outside, overlaps, words_of

import servegrid as sg
from servegrid import plot
from servegrid.errors import InputError
from servegrid.plot.frontier import staircase
from servegrid.plot.roofline import attained
from servegrid.plot.scales import compact, scale_of
from servegrid.plot.style import INK, MOST_STYLES, PALETTE, ink_on, styles

ROOFLINE = ["active_parameters", "max_active_requests", "weight_bytes", "kv_bytes_per_request", "itl", "peak_flops"]
SLICE: dict[str, Any] = {"precision": "fp16", "seq_len": 8192, "page_size": 16}


@pytest.fixture(scope="module")
def steps() -> xr.Dataset:
    """Decode steps of one model, with everything that rooflines and breakdowns need."""
    return sg.sweep(
        axes={
            "hardware": ["l4", "h100-sxm", "mi300x"],
            "precision": ["fp16", "fp8"],
            "max_batch_size": [1, 4, 16, 64, 512],
        },
        values={"model": "llama-3.1-8b", "seq_len": 128},
        outputs=[*ROOFLINE, "hbm_bandwidth", "weight_read_time", "kv_read_time"],
    )


@pytest.fixture
def points() -> xr.Dataset:
    """Pareto points of two accelerators, as a question about them is answered."""
    return xr.Dataset(
        {
            "throughput": (
                "point",
                [400.0, 300.0, 100.0, 900.0, 200.0],
                {"units": "count/s", "display_units": "token/s", "long_name": "output tokens per second"},
            ),
            "itl": (
                "point",
                [0.040, 0.020, 0.010, 0.050, 0.005],
                {"units": "s", "long_name": "inter-token latency", "direction": "minimize"},
            ),
        },
        coords={"hardware": ("point", ["h100-sxm", "h100-sxm", "h100-sxm", "b200", "b200"])},
    )


@pytest.fixture
def table() -> xr.Dataset:
    """What a sensitivity analysis gives: one input on both sides, one on one side, one without effect."""
    ends = np.array([[0.050, 0.032], [0.041, 0.043], [0.040, 0.040]])
    return xr.Dataset(
        {
            "itl": (
                ("input", "bound"),
                ends,
                {"units": "s", "long_name": "inter-token latency", "baseline": 0.040},
            )
        },
        coords={
            "input": ["hbm_bandwidth", "page_size", "efficiency"],
            "bound": ["low", "high"],
            "value": (("input", "bound"), np.array([[2e12, 5e12], [1, 256], [0.3, 0.7]])),
            "unit": ("input", ["byte/s", "token", "1"]),
        },
    )


# Heat maps


def cell_counts(figure: Figure) -> dict[str, int]:
    """How many cells each hatch covers, by what it means."""
    marks = [child for child in axes_of(figure).collections if isinstance(child, PatchCollection)]
    return {str(mark.get_label()): len(mark.get_paths()) for mark in marks}


def colors_of(figure: Figure) -> np.ma.MaskedArray[Any, Any]:
    """The numbers that the colours of a heat map stand for."""
    (mesh,) = [child for child in axes_of(figure).collections if isinstance(child, QuadMesh)]
    return np.ma.masked_array(mesh.get_array()).reshape(np.shape(mesh.get_coordinates())[0] - 1, -1)


def test_a_heat_map_has_the_numbers_of_the_dataset(small_dataset: xr.Dataset) -> None:
    ds = small_dataset.sel(**SLICE, max_batch_size=7)
    figure = plot.heatmap(ds, "itl", x="hardware", y="model")
    cells = colors_of(figure)
    expected = ds.itl.transpose("model", "hardware").values * 1e3
    assert np.array_equal(cells.mask, np.isnan(expected))
    assert cells.compressed() == pytest.approx(expected[~np.isnan(expected)])
    assert {"Inter-token latency [ms]", "Hardware", "Model"} <= set(words_of(figure))
    assert {compact(value) for value in cells.compressed()} <= set(words_of(figure))


def test_every_cell_that_does_not_fit_is_hatched_and_no_other(small_dataset: xr.Dataset) -> None:
    ds = small_dataset.sel(**SLICE, max_batch_size=7)
    figure = plot.heatmap(ds, "throughput", x="hardware", y="model")
    assert cell_counts(figure) == {"does not fit the memory": int((~ds.feasible).sum())}
    assert cells_are_masked_where(figure, ~ds.feasible.transpose("model", "hardware").values)
    assert legend_of(figure) == ["does not fit the memory"]


def cells_are_masked_where(figure: Figure, expected: np.ndarray) -> bool:
    return bool(np.array_equal(colors_of(figure).mask, expected))


def test_a_filter_and_a_missing_fact_have_marks_of_their_own() -> None:
    ds = sg.sweep(
        axes={"hardware": ["h100-sxm", "gaudi-3", "l4"], "max_batch_size": [1, 8, 64]},
        values={"model": "llama-3.1-70b", "precision": "int4", "seq_len": 1024},
        outputs=["cost_per_million_tokens", "itl"],
        where="itl <= 0.0115",
    )
    figure = plot.heatmap(ds, "cost_per_million_tokens")
    fails = ds.feasible & ~ds.selected & ds.cost_per_million_tokens.notnull()
    assert cell_counts(figure) == {
        "does not fit the memory": 3,
        "no value": 3,
        "fails: itl <= 0.0115": int(fails.sum()),
    }
    assert 0 < fails.sum() < 3
    assert len(legend_of(figure)) == 3


def test_where_one_of_the_points_behind_a_cell_fits_the_cell_is_not_hatched(small_dataset: xr.Dataset) -> None:
    """TTFT does not depend on the page size, what fits does."""
    ds = small_dataset.sel(precision="fp16", seq_len=131072, max_batch_size=7)
    assert ds.ttft.dims == ("model", "hardware")
    figure = plot.heatmap(ds, "ttft")
    assert cell_counts(figure) == {"does not fit the memory": int((~ds.feasible.any("page_size")).sum())}


def test_what_has_to_be_selected_is_said_and_how(small_dataset: xr.Dataset) -> None:
    with pytest.raises(
        InputError,
        match=r"^heat map of itl: got 2 more axes than it shows \(seq_len, page_size\), select one label of each, "
        r"as with \.sel\(seq_len=1000\) or --at seq_len=1000$",
    ):
        plot.heatmap(small_dataset.sel(precision="fp16", max_batch_size=7), "itl", x="model", y="hardware")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"variable": "throughputt"}, r"variable: the dataset has no 'throughputt' \(did you mean throughput\?\), "),
        ({"variable": "model"}, "variable: model holds names, expected a variable of numbers"),
        ({"variable": "itl", "x": "pagesize"}, r"x: 'pagesize' is not an axis of itl \(did you mean page_size\?\), "),
        ({"variable": "itl", "x": "model", "y": "model"}, "y: got 'model', which is x already, "),
        ({"variable": "hbm_capacity"}, "heat map of hbm_capacity: got hardware, expected a variable with two axes"),
    ],
)
def test_a_heat_map_refuses_in_a_sentence(small_dataset: xr.Dataset, words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        plot.heatmap(small_dataset, **words)


def test_colours_are_in_decades_where_the_numbers_span_many() -> None:
    ds = xr.Dataset({"t": (("a", "b"), [[1.0, 10.0], [100.0, 1000.0]]), "u": (("a", "b"), [[1.0, 2.0], [3.0, 4.0]])})
    norms = [axes_of(plot.heatmap(ds, name)).collections[0].norm for name in ("t", "u")]
    assert [isinstance(norm, LogNorm) for norm in norms] == [True, False]


def test_where_nothing_fits_there_is_still_a_picture(small_dataset: xr.Dataset) -> None:
    ds = small_dataset.sel(model=["llama-3.1-70b"], hardware=["l4"], precision="fp16", seq_len=8192, page_size=16)
    figure = plot.heatmap(ds.sel(max_batch_size=7), "itl")
    assert cell_counts(figure) == {"does not fit the memory": 1}
    assert len(figure.axes) == 1  # no colour bar


def test_labels_of_a_store_that_has_grown_are_in_order(small_dataset: xr.Dataset) -> None:
    ds = small_dataset.sel(**SLICE, model="llama-3.1-8b")
    grown = ds.isel(max_batch_size=[1, 2, 0])
    same = [colors_of(plot.heatmap(one, "itl")) for one in (ds, grown)]
    assert np.ma.allequal(same[0], same[1])
    lines = [axes_of(plot.lines(one, "itl", "max_batch_size", "hardware")).lines[1] for one in (ds, grown)]
    assert np.array_equal(data_of(lines[0]), data_of(lines[1]))


# Lines


def test_lines_show_median_and_quantiles_of_what_fits(small_dataset: xr.Dataset) -> None:
    figure = plot.lines(small_dataset, "itl", "seq_len", "hardware")
    ax = axes_of(figure)
    fitting = small_dataset.itl.where(small_dataset.feasible)
    for index, hardware in enumerate(small_dataset.hardware.values):
        for place, seq_len in enumerate(small_dataset.seq_len.values):
            values = fitting.sel(hardware=hardware, seq_len=seq_len).values
            low, middle, high = np.quantile(values[~np.isnan(values)], [0.1, 0.5, 0.9]) * 1e3
            assert data_of(ax.lines[index])[place] == pytest.approx([seq_len, middle])
            corners = np.asarray(ax.collections[index].get_paths()[0].vertices)
            assert {round(low, 9), round(high, 9)} <= {round(y, 9) for x, y in corners if x == seq_len}
    assert legend_of(figure) == ["h100-sxm", "mi300x", "l4"]
    assert ax.get_ylabel() == "Inter-token latency [ms]"
    words = " ".join(" ".join(words_of(figure)).split())
    assert (
        "line: median, band: 10–90 % quantiles over model, precision, max batch size, page size; only what fits the "
        "memory" in words
    )


def test_without_other_axes_there_is_no_band_and_lines_stop_where_nothing_fits(small_dataset: xr.Dataset) -> None:
    ds = small_dataset.sel(model="llama-3.1-70b", precision="int4", max_batch_size=7, page_size=16)
    figure = plot.lines(ds, "throughput", "seq_len", "hardware")
    ax = axes_of(figure)
    assert not ax.collections
    assert np.isnan(data_of(ax.lines[2])[:, 1]).tolist() == (~ds.feasible.sel(hardware="l4")).values.tolist()
    assert "quantiles" not in " ".join(words_of(figure))


def test_names_stand_side_by_side_in_their_order(small_dataset: xr.Dataset) -> None:
    figure = plot.lines(small_dataset.sel(**SLICE, max_batch_size=7), "itl", "hardware", "model")
    ax = axes_of(figure)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["h100-sxm", "mi300x", "l4"]
    assert data_of(ax.lines[0])[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            {"over": ["model"]},
            r"lines of itl: got 3 more axes than it shows \(precision, max_batch_size, page_size\)",
        ),
        ({"over": ["modell"]}, r"over: 'modell' is not an axis of itl \(did you mean model\?\)"),
        ({"over": ["seq_len"]}, "over: got 'seq_len', which is x already"),
        ({"over": ["hardware"]}, "over: got 'hardware', which is hue already"),
        ({"hue": "seq_len"}, "hue: got 'seq_len', which is x already"),
    ],
)
def test_lines_refuse_in_a_sentence(small_dataset: xr.Dataset, words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        plot.lines(small_dataset, **{"variable": "itl", "x": "seq_len", "hue": "hardware", **words})


def test_more_lines_than_can_be_told_apart_are_refused() -> None:
    ds = xr.Dataset({"t": (("a", "b"), np.ones((MOST_STYLES + 1, 2)))})
    with pytest.raises(InputError, match=r"^hue: a has 29 labels, expected 28 at most, .*; select some of them$"):
        plot.lines(ds, "t", "b", "a")


# Frontiers


def test_a_frontier_has_a_staircase_for_each_label(points: xr.Dataset) -> None:
    figure = plot.frontier(points, "itl", "throughput", "hardware")
    stairs = [line for line in axes_of(figure).lines if line.get_linestyle() != "None" and data_of(line).size]
    assert [data_of(line).tolist() for line in stairs] == [
        [[10, 100], [20, 100], [20, 300], [40, 300], [40, 400]],  # a lower latency and a higher throughput are better
        [[5, 200], [50, 200], [50, 900]],
    ]
    assert legend_of(figure) == ["h100-sxm", "b200"]
    assert axes_of(figure).get_xlabel() == "Inter-token latency [ms]"
    assert axes_of(figure).get_ylabel() == "Output tokens per second [token/s]"
    assert "better: left and up" in words_of(figure)


def test_all_points_are_marked(points: xr.Dataset) -> None:
    markers = [line for line in axes_of(plot.frontier(points, "itl", "throughput")).lines if line.get_marker() == "o"]
    assert data_of(markers[0])[:, 0] == pytest.approx(points.itl.values * 1e3)


def test_a_frontier_refuses_in_a_sentence(points: xr.Dataset, small_dataset: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"^x: itl has the axes model, .*, expected point, as "):
        plot.frontier(small_dataset, "itl", "throughput")
    with pytest.raises(InputError, match=r"^hue: the dataset has no 'hardwear'"):
        plot.frontier(points, "itl", "throughput", "hardwear")
    points.itl.attrs["direction"] = "down"
    with pytest.raises(InputError, match=r"^itl: got the direction 'down', expected maximize or minimize$"):
        plot.frontier(points, "itl", "throughput")


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
    st.sampled_from([1, -1]),
    st.sampled_from([1, -1]),
)
def test_a_staircase_bounds_what_is_reached(points: list[tuple[int, int]], one: int, other: int) -> None:
    """Compared with a slow look at every place of the grid."""
    stairs = staircase([x for x, _ in points], [y for _, y in points], (one, other))
    assert np.all(np.diff(stairs[:, 0]) >= 0)
    corners = {(x, y) for x, y in stairs.tolist()}

    def reached(x: float, y: float) -> bool:
        return any(one * p >= one * x and other * q >= other * y for p, q in points)

    best = {p for p in points if not any(q != p and _beats(q, p, (one, other)) for q in points)}
    assert best <= corners
    assert all(reached(x, y) for x, y in corners)
    assert not any(reached(x + one / 2, y + other / 2) for x, y in corners)


def _beats(winner: tuple[int, int], loser: tuple[int, int], signs: tuple[int, int]) -> bool:
    return all(sign * p >= sign * q for sign, p, q in zip(signs, winner, loser, strict=True))


# Rooflines


def test_a_roofline_has_roofs_and_the_points_of_the_sweep(steps: xr.Dataset) -> None:
    figure = plot.roofline(steps)
    h100 = steps.sel(hardware="h100-sxm").where(steps.feasible.sel(hardware="h100-sxm"))
    n = h100.max_active_requests
    flops = 2 * 8_030_261_248 * n
    intensity = (flops / (h100.weight_bytes + n * h100.kv_bytes_per_request)).values.ravel()
    drawn = drawn_in(figure, "h100-sxm")
    found = next(line for line in drawn if line.get_marker() != "None")
    assert sorted(data_of(found)[:, 0]) == pytest.approx(sorted(intensity), rel=1e-3)
    assert sorted(data_of(found)[:, 1]) == pytest.approx(sorted((flops / h100.itl).values.ravel() / 1e12), rel=1e-3)
    peaks = sorted(data_of(line)[-1, 1] * 1e12 for line in drawn if line.get_marker() == "None")
    assert peaks == pytest.approx(sorted(steps.peak_flops.sel(hardware="h100-sxm").values))
    assert legend_of(figure) == ["l4", "h100-sxm", "mi300x"]
    assert axes_of(figure).get_xlabel() == "Arithmetic intensity [FLOP/byte]"
    assert axes_of(figure).get_ylabel() == "Attained [TFLOP/s]"


def drawn_in(figure: Figure, label: str) -> list[Line2D]:
    """The lines in the colour that the legend gives to a label."""
    lines = axes_of(figure).lines
    color = next(line.get_color() for line in lines if line.get_label() == label)
    return [line for line in lines if line.get_color() == color and data_of(line).size]


def test_points_above_the_roof_are_counted(steps: xr.Dataset) -> None:
    """The reference solver takes decoding as bound by the memory alone."""
    flops = 2 * 8_030_261_248 * steps.max_active_requests
    above = int((flops / steps.itl > steps.peak_flops * 1.0001).sum())
    assert above > 0
    assert f"{above} of them above the roof" in " ".join(" ".join(words_of(plot.roofline(steps))).split())


def test_attained_turns_at_the_ridge() -> None:
    assert attained([1, 295, 300, 1000], 3.35e12, 989e12).tolist() == [3.35e12, 295 * 3.35e12, 989e12, 989e12]


def test_a_roofline_says_what_to_add(steps: xr.Dataset, small_dataset: xr.Dataset) -> None:
    with pytest.raises(
        InputError,
        match=r"^roofline: the dataset has no weight_bytes and no kv_bytes_per_request and no peak_flops: add them to "
        r"`outputs` of the sweep$",
    ):
        plot.roofline(small_dataset)
    with pytest.raises(InputError, match=r"^roofline: the dataset has no itl: add it to `outputs` of the sweep$"):
        plot.roofline(steps.drop_vars("itl"))
    with pytest.raises(InputError, match=r"^hue: the dataset has no 'hardwear' \(did you mean hardware\?\), expected"):
        plot.roofline(steps, hue="hardwear")


def test_roofs_that_are_the_same_for_every_label_have_no_colour(steps: xr.Dataset) -> None:
    ds = steps.sel(hardware="h100-sxm", precision="fp16")
    roofs = [line for line in axes_of(plot.roofline(ds, "max_batch_size")).lines if data_of(line).shape == (3, 2)]
    assert {line.get_color() for line in roofs} == {INK}


def test_a_roofline_refuses_more_points_than_can_be_seen(steps: xr.Dataset) -> None:
    many = steps.expand_dims(extra=10_000)
    with pytest.raises(InputError, match=r"^roofline: got 300,000 points, expected 200,000 at most: select labels of "):
        plot.roofline(many)


@pytest.mark.parametrize("hue", [None, "precision", "max_batch_size", "hbm_bandwidth"])
def test_any_axis_or_coordinate_may_colour_a_roofline(steps: xr.Dataset, hue: str | None) -> None:
    ds = steps.set_coords("hbm_bandwidth")
    assert len(legend_of(plot.roofline(ds, hue))) == (0 if hue is None else np.unique(ds[hue]).size)


# Breakdowns


def bars_of(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    """Bottoms and heights of the bars, by the name of their term."""
    found = {}
    for container in axes_of(figure).containers:
        assert isinstance(container, BarContainer)
        bars = container.patches
        found[str(container.get_label())] = ([bar.get_y() for bar in bars], [bar.get_height() for bar in bars])
    return found


def test_a_breakdown_adds_up_to_the_latency(steps: xr.Dataset) -> None:
    ds = steps.sel(hardware="h100-sxm", precision="fp16")
    figure = plot.breakdown(ds)
    bars = bars_of(figure)
    weights, caches = bars["Time to read the weights"], bars["Time to read the KV caches"]
    assert weights[1] == pytest.approx([float(ds.weight_read_time) * 1e3] * 5)
    assert caches[1] == pytest.approx((ds.max_active_requests * ds.kv_read_time).values * 1e3)
    assert caches[0] == pytest.approx(weights[1])
    assert np.add(*caches) == pytest.approx(ds.itl.values * 1e3)
    assert axes_of(figure).get_ylabel() == "Time of a step [ms]"
    assert {compact(total) for total in ds.itl.values * 1e3} <= set(words_of(figure))
    assert legend_of(figure) == ["Time to read the weights", "Time to read the KV caches"]


def test_a_bar_that_does_not_fit_says_so(small: dict[str, Any]) -> None:
    small["outputs"] = ["weight_read_time", "kv_read_time", "max_active_requests"]
    ds = sg.sweep(**small).sel(**SLICE, max_batch_size=7, model="llama-3.1-70b")
    figure = plot.breakdown(ds, x="hardware")
    heights = bars_of(figure)["Time to read the weights"][1]
    assert np.isnan(heights).tolist() == (~ds.feasible).values.tolist() == [True, False, True]
    assert words_of(figure).count("does not fit") == 2


def test_terms_of_a_solver_are_found_by_their_names() -> None:
    ds = xr.Dataset(
        {
            "time_attention": ("n", [0.001, 0.002], {"units": "s", "long_name": "attention"}),
            "time_experts": ((), 0.003, {"units": "s", "long_name": "experts"}),
            "time_zone": ("n", [1.0, 2.0], {"units": "h"}),
            "weight_read_time": ("n", [1.0, 2.0], {"units": "s"}),
        }
    )
    assert bars_of(plot.breakdown(ds)) == {"Attention": ([0, 0], [1, 2]), "Experts": ([1, 2], [3, 3])}
    assert list(bars_of(plot.breakdown(ds, ["weight_read_time"]))) == ["Weight read time"]
    assert bars_of(plot.breakdown(ds.isel(n=0)))["Experts"] == ([1], [3])


def test_a_breakdown_refuses_in_a_sentence(steps: xr.Dataset, small_dataset: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"^breakdown: the dataset has no weight_read_time and no kv_read_time, and"):
        plot.breakdown(small_dataset)
    with pytest.raises(InputError, match=r"^terms: peak_flops is in FLOP/s, expected variables in s$"):
        plot.breakdown(steps, ["peak_flops"])
    with pytest.raises(InputError, match=r"^terms: the dataset has no 'time_x'"):
        plot.breakdown(steps, ["time_x"])
    with pytest.raises(InputError, match=r"^terms: got none"):
        plot.breakdown(steps, [])
    with pytest.raises(InputError, match=r"^breakdown of the terms: got 1 more axes than it shows \(precision\), "):
        plot.breakdown(steps.sel(hardware="l4"), x="max_batch_size")


# Tornados


def test_a_tornado_is_sorted_and_says_the_values_of_the_inputs(table: xr.Dataset) -> None:
    figure = plot.tornado(table.isel(input=[2, 0, 1]))
    ax = axes_of(figure)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["efficiency", "page size", "hbm bandwidth"]
    containers: list[Any] = list(ax.containers)
    bars = [container.patches for container in containers]
    ends = [[round(bar.get_x() + bar.get_width(), 9) for bar in row] for row in bars]
    assert ends == [[40, 41, 50], [40, 43, 32]]
    assert all(bar.get_x() == 40 for row in bars for bar in row)
    assert {"2 TB/s", "5 TB/s", "1", "256", "0.3", "0.7", "baseline: 40 ms"} <= set(words_of(figure))
    assert ax.get_xlabel() == "Inter-token latency [ms]"
    assert not overlaps(figure)


def test_a_tornado_refuses_in_a_sentence(table: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"^output: the table has itl, ttft, expected the name of one$"):
        plot.tornado(table.assign(ttft=table.itl))
    with pytest.raises(InputError, match=r"^itl: got the axes input, expected input and bound, and the attribute base"):
        plot.tornado(table.isel(bound=0))


# What they share


PICTURES: dict[str, Callable[..., Figure]] = {
    "heatmap": lambda ds, ax: plot.heatmap(ds.isel(precision=0), "itl", ax=ax),
    "lines": lambda ds, ax: plot.lines(ds, "itl", "max_batch_size", "hardware", ax=ax),
    "roofline": lambda ds, ax: plot.roofline(ds, ax=ax),
    "breakdown": lambda ds, ax: plot.breakdown(ds.isel(precision=0, max_batch_size=0), ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_axes_that_are_given_are_used(name: str, steps: xr.Dataset) -> None:
    figure = Figure()
    parts: Any = figure.subfigures(1, 2)
    part = parts[0]
    ax = part.subplots()
    assert PICTURES[name](steps, ax) is figure
    assert ax.has_data()
    assert part.axes[0] is ax


@pytest.mark.parametrize("name", PICTURES)
def test_no_words_lie_upon_each_other(name: str, steps: xr.Dataset) -> None:
    figure = PICTURES[name](steps, None)
    assert overlaps(figure) == []
    assert outside(figure) == []


def test_long_names_fit_the_slide(small_dataset: xr.Dataset) -> None:
    """The longest names that the solver has, on each side."""
    for figure in (
        plot.lines(small_dataset, "speedup_vs_static", "seq_len"),
        plot.heatmap(small_dataset.isel(precision=0, max_batch_size=0, model=0, page_size=0), "speedup_vs_static"),
    ):
        assert outside(figure) == []


@pytest.mark.parametrize("name", PICTURES)
def test_words_are_large_enough_for_a_slide(name: str, steps: xr.Dataset) -> None:
    """10 points on a figure of 10 inches become 13 on a slide; numbers in cells may be smaller."""
    figure = PICTURES[name](steps, None)
    figure.draw_without_rendering()
    ax = axes_of(figure)
    labels: list[Any] = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label]
    legend = ax.get_legend()
    labels += legend.get_texts() if legend else []
    assert min(label.get_fontsize() for label in labels) >= 12


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_a_lazy_dataset_are_the_same(name: str, steps: xr.Dataset) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    PICTURES[name](steps, None).savefig(first, format="png")
    PICTURES[name](steps.chunk(hardware=1), None).savefig(second, format="png")
    assert first.getvalue() == second.getvalue()


def test_what_was_selected_stands_above(small_dataset: xr.Dataset) -> None:
    figure = plot.heatmap(small_dataset.sel(**SLICE, max_batch_size=7), "itl")
    assert axes_of(figure).get_title(loc="left") == "precision fp16 · seq len 8,192 · max batch size 7 · page size 16"
    one = small_dataset.isel(model=0, hardware=0, precision=0, max_batch_size=0, page_size=0)
    figure = plot.lines(one, "itl", "seq_len")
    assert axes_of(figure).get_title(loc="left").splitlines() == [
        "model llama-3.1-8b · hardware h100-sxm · precision fp16 · max batch size 1 ·",
        "page size 1",
    ]
    assert outside(figure) == []


def test_what_is_infinite_has_no_number() -> None:
    figure = plot.heatmap(xr.Dataset({"t": (("a", "b"), [[1.5, np.inf], [2.5, 3.5]])}), "t")
    assert {"1.5", "2.5", "3.5"} <= set(words_of(figure))
    assert colors_of(figure).count() == 3


def test_a_notebook_shows_a_figure_without_pyplot(steps: xr.Dataset) -> None:
    figure: Any = plot.roofline(steps)
    assert figure._repr_png_().startswith(b"\x89PNG")
    code = "import sys, servegrid.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_matplotlib_is_loaded_with_the_pictures_only() -> None:
    code = (
        "import sys, servegrid as sg; sg.sweep; before = 'matplotlib' in sys.modules; sg.plot.lines; sys.exit(before)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("values", "unit", "step", "name", "is_log"),
    [
        ([0.001, 0.02], "s", 1e-3, "ms", False),
        ([0.001, 0.02, 0.03, 2.0], "s", 1e-3, "ms", True),
        ([3.35e12, 8e12], "byte/s", 1e12, "TB/s", False),
        ([2.0**33, 2.0**37], "byte", 2.0**30, "GiB", False),
        ([989e12], "FLOP/s", 1e12, "TFLOP/s", False),
        ([0, 5000], "token/s", 1, "token/s", False),
        ([0, float("nan")], "s", 1, "s", False),
    ],
)
def test_scales(values: list[float], unit: str, step: float, name: str, is_log: bool) -> None:
    scale = scale_of(values, unit)
    assert (scale.step, scale.unit, scale.is_log) == (step, name, is_log)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.25, "0.25"), (12.345, "12.3"), (999.96, "1,000"), (1024, "1,024"), (1234.5, "1,230"),
        (16384, "16.4k"), (1e6, "1M"), (999_999, "1M"), (-20_000, "-20k"), (2.5e12, "2.5T"), (1e-5, "1e-05"),
    ],
)  # fmt: skip
def test_ticks(value: float, text: str) -> None:
    assert compact(value) == text


# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, table 1, severity 1: what is left of linear RGB.
VISIONS = {
    "all cones": np.eye(3),
    "no long cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no middle cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no short cones": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color: str, vision: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a colour as a kind of vision sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(vision @ linear, 0, 1) / (TO_XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_differ_for_everybody(vision: str) -> None:
    """A distance of 2.3 is just noticeable (Mahy et al. 1994); lines on a slide need several of those."""
    seen = {color: lab(color, VISIONS[vision]) for color in (*PALETTE, "#FFFFFF")}
    distances = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(distances.values()) > 10, min(distances, key=lambda pair: distances[pair])


def test_the_palette_is_the_published_one() -> None:
    """Okabe and Ito 2008, https://jfly.uni-koeln.de/color/."""
    published = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(PALETTE) == published - {"#F0E442"}


def test_no_two_styles_are_alike() -> None:
    looks = styles(MOST_STYLES, "hue")
    assert len({(look.color, look.dashes) for look in looks}) == MOST_STYLES
    assert len({look.marker for look in looks[:11]}) == 11


@pytest.mark.parametrize(("color", "ink"), [("white", "black"), ("#FDE725", "black"), ("#440154", "white")])
def test_numbers_can_be_read_on_their_cells(color: str, ink: str) -> None:
    assert ink_on(color) == ink


# Files


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_a_file_is_what_its_suffix_says(suffix: str, start: bytes, tmp_path: Path, steps: xr.Dataset) -> None:
    path = plot.save(plot.roofline(steps), tmp_path / f"x.{suffix}")
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_the_words_of_a_drawing_stay_words(tmp_path: Path, steps: xr.Dataset) -> None:
    assert "Arithmetic intensity" in plot.save(plot.roofline(steps), tmp_path / "x.svg").read_text()


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.gif: got the suffix '\.gif', expected one of \.png, \.svg, \.pdf, such"):
        plot.save(Figure(), tmp_path / "x.gif")


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"old")

    def fail(figure: Figure, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plot.save(Figure(), tmp_path / "x.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.png", b"old")]
