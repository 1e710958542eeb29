"""The hand-written loops, compiled and as plain Python, against numpy and a search through all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from uncompiled import nothing_compiled

from servegrid import loops
from servegrid.query import front
from servegrid.query.front import Candidates, Front, maximal
from servegrid.query.reduce import Bins, Digits

# Few values, so that there are ties in one objective, and points that are equal in all of them.
COARSE = st.integers(-3, 3).map(float)
ANY = st.one_of(COARSE, st.floats(allow_nan=False, width=16), st.sampled_from([np.inf, -0.0, 5e-324]))


def points(objectives: int, values: st.SearchStrategy[float] = ANY) -> st.SearchStrategy[np.ndarray]:
    """Points (n, objectives)."""
    return st.integers(0, 40).flatmap(lambda n: arrays(float, (n, objectives), elements=values))


def search(values: np.ndarray) -> list[int]:
    """The places of the maximal points, found by comparing all pairs; of equal points the first."""
    found = []
    for one, point in enumerate(values):
        reached = (values >= point).all(axis=1)
        equal = (values == point).all(axis=1)
        if not (reached & ~equal).any() and not equal[:one].any():
            found.append(one)
    return found


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_maximal_points_are_those_of_a_search(objectives: int) -> None:
    @given(points(objectives), st.randoms())
    def check(values: np.ndarray, random: Any) -> None:
        places = np.array(random.sample(range(100), len(values)), np.int64)
        with nothing_compiled():
            found, where = maximal(values, places)
        expected = search(values[np.argsort(places)])
        assert sorted(where) == sorted(np.sort(places)[expected])
        assert [tuple(row) for row in found] == sorted((tuple(row) for row in found), reverse=True)

    check()


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_compiled_loops_find_the_same(objectives: int) -> None:
    random = np.random.default_rng(20230917)
    values = random.integers(0, 30, (3000, objectives)).astype(float)
    places = np.arange(len(values))
    compiled = maximal(values, places)
    with nothing_compiled():
        plain = maximal(values, places)
    assert np.array_equal(compiled[0], plain[0])
    assert np.array_equal(compiled[1], plain[1])
    assert sorted(compiled[1]) == search(values)


@given(points(3, COARSE), st.integers(1, 4))
def test_no_maximal_point_is_lost_in_the_window(values: np.ndarray, room: int) -> None:
    window, held, found = np.empty((room, 3)), np.zeros(1, np.int64), np.empty(len(values), np.int64)
    kept = found[: loops.survivors(values.T.copy(), window, held, found)]
    assert set(search(values)) <= set(kept)
    assert held[0] <= room
    rows = {tuple(row) for row in values}
    assert {tuple(row) for row in window[: held[0]]} <= rows  # only real points may beat others


def test_points_that_do_not_count_are_left_out() -> None:
    values = np.array([[np.nan, -np.inf, 1.0], [9.0, 9.0, 1.0]])
    with nothing_compiled():
        candidates = Candidates(2)
        candidates.look(10, values)
        found, places = candidates.front()
    assert found.tolist() == [[1.0, 1.0]]
    assert places.tolist() == [12]


@given(points(2, COARSE), st.integers(1, 5))
def test_a_frontier_that_is_thinned_out_on_the_way_is_the_same(values: np.ndarray, limit: int) -> None:
    with nothing_compiled() as patch:
        patch.setattr(front, "WINDOW", 1)
        patch.setattr(front, "MOST_CANDIDATES", limit)
        candidates = Candidates(2, limit=limit)
        for start in range(0, len(values), 3):
            candidates.look(start, values[start : start + 3].T.copy())
        assert sorted(candidates.front()[1]) == search(values)


FRONTS = st.lists(points(2, COARSE), min_size=3, max_size=3)


@given(FRONTS, st.sampled_from([-1, 0, 3, 2**18]))
def test_frontiers_may_be_merged_in_any_order(parts: list[np.ndarray], limit: int) -> None:
    starts = np.cumsum([0, *map(len, parts)])
    reducer = Front(2)
    with nothing_compiled() as patch:
        patch.setattr(front, "MOST_CANDIDATES", limit)  # side by side, or thinned out at once
        patch.setattr(front, "BLOCKS", 0)
        found = []
        for start, part in zip(starts, parts, strict=False):
            kept = reducer.begin(np.arange(1))
            if len(part):
                reducer.look(kept, 0, int(start), [part[None, :, 0], part[None, :, 1]])
            found.append(reducer.found(kept, lambda places: places))
        one, two, three = found
        left = reducer.finished(reducer.merged(reducer.merged(one, two), three))
        right = reducer.finished(reducer.merged(one, reducer.merged(three, two)))
    assert sorted(left[1][0]) == sorted(right[1][0]) == search(np.concatenate(parts))
    assert np.array_equal(left[0][0], right[0][0])


VALUES = arrays(float, st.integers(0, 60), elements=st.one_of(ANY, st.just(np.nan)))
EDGES = st.lists(st.floats(-5, 5), min_size=2, max_size=9, unique=True).map(sorted)


@given(VALUES, EDGES)
def test_bins_are_those_of_numpy(values: np.ndarray, edges: list[float]) -> None:
    counts = np.zeros((1, len(edges) - 1), np.int64)
    loops.count_bins(values[None], np.array(edges), counts)
    finite = values[np.isfinite(values)]
    assert counts[0].tolist() == np.histogram(finite, edges)[0].tolist()


@given(VALUES)
def test_digits_are_in_the_order_of_the_numbers(values: np.ndarray) -> None:
    """Read as one digit of 12 bits, greater numbers have greater digits; none is lost but NaN."""
    counts = np.zeros((1, 1, 2**12), np.int64)
    loops.count_digits(values[None], np.zeros((1, 1), np.uint64), 52, 12, counts)
    assert counts.sum() == np.count_nonzero(~np.isnan(values))
    digits = []
    for value in sorted(values[~np.isnan(values)], key=lambda number: (number, np.copysign(1, number))):  # -0 first
        one = np.zeros_like(counts)
        loops.count_digits(np.array([[value]]), np.zeros((1, 1), np.uint64), 52, 12, one)
        digits.append(int(one.argmax()))
    assert digits == sorted(digits)


def test_compiled_counts_are_the_same() -> None:
    random = np.random.default_rng(20230917)
    values = np.concatenate([random.normal(size=2000), [np.nan, np.inf, -np.inf, 0.0, -0.0]])[None]
    edges = tuple(np.linspace(-3, 3, 8))
    prefix = np.zeros((1, 2), np.uint64)
    for reducer in (Bins(edges), Digits(prefix, 53, 11)):
        kept = reducer.begin(np.arange(1))
        reducer.look(kept, 0, 0, [values])
        with nothing_compiled():
            plain = reducer.begin(np.arange(1))
            reducer.look(plain, 0, 0, [values])
        assert np.array_equal(kept[0], plain[0])
        assert kept[0].sum() > 1900
