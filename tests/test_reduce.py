"""Findings of parts of a grid add up, in any order, to those of the whole."""

from __future__ import annotations

from itertools import islice, permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from servegrid.query.reduce import Count, Found, Leaders, Reducer

GROUPS = 3
SCORES = st.one_of(st.integers(-2, 2).map(float), st.just(-np.inf))


def grids(values: st.SearchStrategy[float], dtype: type = float) -> st.SearchStrategy[np.ndarray]:
    """Arrays (groups, points)."""
    return st.integers(1, 12).flatmap(lambda n: arrays(dtype, (GROUPS, n), elements=values))


def look(reducer: Reducer, values: np.ndarray, starts: np.ndarray) -> Found:
    """What a reducer finds in columns of a grid, one at a time; `starts`: the place of each group's first point."""
    kept = reducer.begin(np.arange(GROUPS))
    for group in range(GROUPS):
        reducer.look(kept, group, int(starts[group]), [np.ascontiguousarray(values[group : group + 1])])
    return reducer.found(kept, lambda places: places)


def sorted_search(values: np.ndarray, count: int) -> tuple[list[list[float]], list[list[int]]]:
    scores, places = [], []
    for group, row in enumerate(values):
        order = sorted((-score, place) for place, score in enumerate(row) if score > -np.inf)[:count]
        lacking = count - len(order)
        scores.append([-score for score, _ in order] + [-np.inf] * lacking)
        places.append([group * values.shape[1] + place for _, place in order] + [-1] * lacking)
    return scores, places


@given(grids(SCORES), st.integers(1, 5), st.integers(1, 4))
def test_leaders_of_parts_are_those_of_the_whole(values: np.ndarray, count: int, width: int) -> None:
    reducer = Leaders(count)
    starts = np.arange(GROUPS) * values.shape[1]
    parts = [
        look(reducer, values[:, begin : begin + width], starts + begin) for begin in range(0, values.shape[1], width)
    ]
    expected = sorted_search(values, count)
    for order in islice(permutations(parts), 6):
        found = reducer.nothing(GROUPS)
        for part in order:
            found = reducer.merged(found, part)
        assert found[0].tolist() == expected[0]
        assert found[1].tolist() == expected[1]


@given(grids(SCORES), grids(SCORES), grids(SCORES), st.integers(1, 3))
def test_leaders_may_be_merged_in_any_order(one: np.ndarray, two: np.ndarray, three: np.ndarray, count: int) -> None:
    reducer, starts = Leaders(count), np.zeros(GROUPS, int)
    a, b, c = (look(reducer, part, starts + 100 * index) for index, part in enumerate((one, two, three)))
    left = reducer.merged(reducer.merged(a, b), c)
    right = reducer.merged(c, reducer.merged(b, a))
    assert all(np.array_equal(x, y) for x, y in zip(left, right, strict=True))


@given(grids(SCORES), st.integers(1, 4))
def test_leaders_of_many_groups_at_once_are_the_same(values: np.ndarray, count: int) -> None:
    reducer = Leaders(count)
    kept = reducer.begin(np.arange(GROUPS))
    reducer.look(kept, 0, 0, [values])
    assert [part.tolist() for part in kept] == list(sorted_search(values, count))


@given(grids(st.booleans(), bool), st.integers(1, 4))
def test_counts_add_up(flags: np.ndarray, width: int) -> None:
    reducer = Count()
    found = reducer.nothing(GROUPS)
    for begin in range(0, flags.shape[1], width):
        found = reducer.merged(found, look(reducer, flags[:, begin : begin + width], np.zeros(GROUPS, int)))
    assert found[0].tolist() == flags.sum(axis=1).tolist()
