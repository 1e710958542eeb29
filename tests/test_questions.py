"""Streamed and stored answers against a search through every point."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import xarray as xr
from brute import Brute, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uncompiled import nothing_compiled

import servegrid as sg
from servegrid.query import stored, swept

# Axes on which some outputs do not depend, labels in no order, ties wherever the memory limits the batch.
AXES: dict[str, list[Any]] = {
    "model": ["llama-3.1-8b", "llama-3.1-70b", "qwen3-0.6b"],
    "hardware": ["h100-sxm", "l4", "mi300x"],
    "precision": ["fp16", "int4"],
    "seq_len": [1000, 131072, 8192],
    "efficiency": [0.5, 0.3],
    "max_batch_size": [64, 1, 7, 4096],
    "page_size": [16, 1, 300],
}
FIXED = {
    "model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp16", "seq_len": 8192, "efficiency": 0.5,
    "max_batch_size": 8, "page_size": 16,
}  # fmt: skip
OUTPUTS = ["throughput", "ttft", "itl", "max_active_requests", "kv_fragmentation", "speedup_vs_static"]
OBJECTIVES = [
    "throughput",
    "ttft",
    "itl",
    "kv_fragmentation",
    "throughput / max_active_requests",
    "ttft - itl",
]
FILTERS = [
    None,
    "ttft <= 0.5",
    "ttft <= 0.5 and itl <= 0.05",
    "throughput > 100 and kv_fragmentation < 0.1",
    "max_active_requests > 1",
]


@st.composite
def sweeps(draw: st.DrawFn) -> dict[str, Any]:
    """A sweep over some of the axes, in any order, with some of their labels."""
    names = draw(st.permutations(list(AXES)))[: draw(st.integers(0, 4))]
    axes = {name: AXES[name][: draw(st.integers(1, len(AXES[name])))] for name in names}
    return {"axes": axes, "values": {name: v for name, v in FIXED.items() if name not in axes}, "outputs": OUTPUTS}


def sources(sweep: dict[str, Any], chunked: Mapping[str, int]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The same grid three times: streamed, in memory, and lazily in chunks."""
    dataset = sg.sweep(**deepcopy(sweep))
    return {"streamed": (None, sweep), "in memory": (dataset, {}), "lazy": (dataset.chunk(chunked), {})}


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    sweep = draw(sweeps())
    axes = list(sweep["axes"])
    return {
        "sweep": sweep,
        "per": draw(st.permutations(axes))[: draw(st.integers(0, 2))],
        "where": draw(st.sampled_from(FILTERS)),
        "threads": draw(st.integers(1, 3)),
        "chunked": {axis: draw(st.integers(1, 4)) for axis in axes},
        "block": draw(st.sampled_from([1, 5, 64, 2**28])),
        "tile": draw(st.sampled_from([8, 1000, 2**24])),
    }


def cut(patch: pytest.MonkeyPatch, case: dict[str, Any]) -> None:
    """Make blocks and tiles as small as the case wants them."""
    patch.setattr(swept, "BLOCK_POINTS", case["block"])
    patch.setattr(stored, "BLOCK_BYTES", 8 * case["block"])
    patch.setattr("servegrid.evaluate.TILE_BYTES", case["tile"])


PROPERTY = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@PROPERTY
@given(asked(), st.sampled_from(OBJECTIVES), st.booleans(), st.sampled_from([None, 1, 3]))
def test_the_best_points_are_those_of_a_search(case: dict[str, Any], text: str, highest: bool, k: int | None) -> None:
    sweep, per = case["sweep"], case["per"]
    words = {
        "maximize" if highest else "minimize": text,
        "where": case["where"],
        "per": per,
        "threads": case["threads"],
    }
    with nothing_compiled() as patch:
        cut(patch, case)
        for grid, sweep_words in sources(sweep, case["chunked"]).values():
            dataset = sg.sweep(**deepcopy(sweep))
            brute = Brute(dataset, list(sweep["axes"]), case["where"])
            expected = brute.ranked(text, 1 if highest else -1, per)
            if not any(expected.values()):
                with pytest.raises(sg.InputError):
                    sg.best(grid, **words, **sweep_words)
                continue
            found = sg.best(grid, **words, **sweep_words) if k is None else sg.top(grid, k=k, **words, **sweep_words)
            check_ranked(found, brute, expected, per, k)


def test_points_that_differ_in_nothing_that_counts_are_one() -> None:
    """Throughput does not depend on the efficiency of prefill."""
    values = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "fp16", "seq_len": 8192}
    grid: dict[str, Any] = {"axes": {"efficiency": [0.5, 0.3], "max_batch_size": [4, 8]}, "values": values}
    found = sg.top(**grid, maximize="throughput", k=3)
    assert found.found.values.tolist() == [True, True, False]
    assert found.max_batch_size.values[:2].tolist() == [8, 4]
    assert Brute(sg.sweep(**grid), ["efficiency", "max_batch_size"], None).ranked("throughput", 1, []) == {(): [1, 0]}


def check_ranked(
    found: xr.Dataset, brute: Brute, expected: dict[tuple[int, ...], list[int]], per: list[str], k: int | None
) -> None:
    assert list(found.found.dims) == [*per, *(["rank"] if k else [])]
    for group, places in expected.items():
        for rank in range(k or 1):
            one = found.isel(dict(zip(per, group, strict=True)) | ({"rank": rank} if k else {}))
            assert bool(one.found) == (rank < len(places))
            if rank < len(places):
                for axis, label in brute.labels(places[rank]).items():
                    assert same(one[axis].values, label), (axis, group)
                for name, value in brute.at(places[rank], OUTPUTS).items():
                    assert same(one[name].values, value), (name, group)
            else:
                assert np.isnan(one.throughput)
                assert one.max_active_requests == 0


@PROPERTY
@given(
    asked(),
    st.lists(
        st.tuples(st.sampled_from(OBJECTIVES), st.booleans()), min_size=2, max_size=4, unique_by=lambda pair: pair[0]
    ),
)
def test_the_frontier_is_that_of_a_search(case: dict[str, Any], chosen: list[tuple[str, bool]]) -> None:
    sweep, per = case["sweep"], case["per"]
    ordered = sorted(chosen, key=lambda pair: not pair[1])
    words = {
        "maximize": [text for text, highest in ordered if highest],
        "minimize": [text for text, highest in ordered if not highest],
        "where": case["where"], "per": per, "threads": case["threads"],
    }  # fmt: skip
    with nothing_compiled() as patch:
        cut(patch, case)
        brute = Brute(sg.sweep(**deepcopy(sweep)), list(sweep["axes"]), case["where"])
        expected = brute.front([(text, 1 if highest else -1) for text, highest in ordered], per)
        for grid, sweep_words in sources(sweep, case["chunked"]).values():
            if not any(expected.values()):
                with pytest.raises(sg.InputError):
                    sg.pareto(grid, **words, **sweep_words)
                continue
            found = sg.pareto(grid, **words, **sweep_words)
            check_front(found, brute, expected)


def check_front(found: xr.Dataset, brute: Brute, expected: dict[tuple[int, ...], list[int]]) -> None:
    wanted = {tuple(brute.labels(place).values()) for places in expected.values() for place in places}
    rows = [tuple(found[axis].values[row] for axis in brute.axes) for row in range(found.sizes["point"])]
    assert len(rows) == sum(map(len, expected.values()))
    assert set(rows) == wanted
    by_labels = {tuple(brute.labels(place).values()): place for places in expected.values() for place in places}
    for row, labels in enumerate(rows):
        for name, value in brute.at(by_labels[labels], OUTPUTS).items():
            assert same(found[name].values[row], value), name


@PROPERTY
@given(asked())
def test_counts_are_those_of_a_search(case: dict[str, Any]) -> None:
    sweep, per = case["sweep"], case["per"]
    with nothing_compiled() as patch:
        cut(patch, case)
        brute = Brute(sg.sweep(**deepcopy(sweep)), list(sweep["axes"]), case["where"])
        fits = brute.values("feasible").reshape(-1)
        for grid, sweep_words in sources(sweep, case["chunked"]).values():
            found = sg.count(grid, where=case["where"], per=per, threads=case["threads"], **sweep_words)
            for group, places in brute.groups(per):
                one = found.isel(dict(zip(per, group, strict=True)))
                assert int(one.points) == len(places)
                assert int(one.feasible) == fits[places].sum()
                assert int(one.met) == brute.counts.reshape(-1)[places].sum()


@PROPERTY
@given(asked(), st.sampled_from(OBJECTIVES), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_quantiles_are_those_of_numpy(case: dict[str, Any], text: str, levels: list[float]) -> None:
    sweep, per = case["sweep"], case["per"]
    with nothing_compiled() as patch:
        cut(patch, case)
        brute = Brute(sg.sweep(**deepcopy(sweep)), list(sweep["axes"]), case["where"])
        values = np.where(brute.counts, brute.values(text), np.nan).reshape(-1)
        for grid, sweep_words in sources(sweep, case["chunked"]).values():
            words = {"of": text, "q": levels, "where": case["where"], "per": per, "threads": case["threads"]}
            if np.isnan(values).all():
                with pytest.raises(sg.InputError):
                    sg.quantile(grid, **words, **sweep_words)
                continue
            found = sg.quantile(grid, **words, **sweep_words)
            for group, places in brute.groups(per):
                one = found[text].isel(dict(zip(per, group, strict=True))).values
                chosen = values[places][~np.isnan(values[places])]
                expected = (
                    np.quantile(chosen, levels, method="inverted_cdf") if len(chosen) else np.full(len(levels), np.nan)
                )
                assert np.array_equal(one, expected, equal_nan=True)


@PROPERTY
@given(asked(), st.sampled_from(OBJECTIVES), st.integers(1, 9), st.sampled_from(["linear", "log"]))
def test_histograms_are_those_of_numpy(case: dict[str, Any], text: str, bins: int, spacing: str) -> None:
    sweep, per = case["sweep"], case["per"]
    with nothing_compiled() as patch:
        cut(patch, case)
        brute = Brute(sg.sweep(**deepcopy(sweep)), list(sweep["axes"]), case["where"])
        values = np.where(brute.counts, brute.values(text), np.nan).reshape(-1)
        low = np.nanmin(values, initial=np.inf)
        for grid, sweep_words in sources(sweep, case["chunked"]).values():
            words = {
                "of": text,
                "bins": bins,
                "spacing": spacing,
                "where": case["where"],
                "per": per,
                "threads": case["threads"],
            }
            if not np.isfinite(low) or (spacing == "log" and low <= 0):
                with pytest.raises(sg.InputError):
                    sg.histogram(grid, **words, **sweep_words)
                continue
            found = sg.histogram(grid, **words, **sweep_words)
            edges = [*found.left.values, found.right.values[-1]]
            assert edges[0] <= low
            assert edges[-1] >= np.nanmax(values)
            for group, places in brute.groups(per):
                one = found["count"].isel(dict(zip(per, group, strict=True))).values
                assert np.array_equal(one, np.histogram(values[places][~np.isnan(values[places])], edges)[0])
