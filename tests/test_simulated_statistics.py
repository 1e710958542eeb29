"""Means and percentiles of simulated requests are those of numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from servegrid.simulation.statistics import mean, percentile, smallest, statistics

NUMBERS = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=60).map(np.array)


@given(NUMBERS, st.floats(0, 100))
def test_a_percentile_is_as_numpy_has_it(values: np.ndarray, percent: float) -> None:
    found = percentile(values.copy(), percent)
    np.testing.assert_allclose(found, np.percentile(values, percent), rtol=1e-9, atol=1e-8)


@given(NUMBERS, st.data())
def test_smaller_numbers_are_before_and_larger_ones_after(values: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(values) - 1))
    ordered = values.copy()
    assert smallest(ordered, k) == ordered[k] == np.sort(values)[k]
    assert (ordered[:k] <= ordered[k]).all()
    assert (ordered[k + 1 :] >= ordered[k]).all()
    assert sorted(ordered) == sorted(values)


@given(NUMBERS)
def test_values_stay_as_they_are(values: np.ndarray) -> None:
    before = values.copy()
    found = statistics(values, np.array((99.0, 50.0, 0.0, 100.0)))
    np.testing.assert_array_equal(values, before)
    assert found[3] == values.min()
    assert found[4] == values.max()
    np.testing.assert_allclose(found[0], mean(values))
