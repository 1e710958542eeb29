"""Requests of a simulation: lengths and arrivals have the moments that are asked for, and follow from the seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from plain_simulation import WORKLOAD, traced

from servegrid.simulation.workload import (
    Workload,
    at_rate,
    clients_of,
    count_rows,
    draw_arrivals,
    draw_lengths,
    draw_requests,
    exponential_scale,
)

FIXED, UNIFORM, LOGNORMAL, EXPONENTIAL = range(4)
MANY = 20000


def lengths(shape: int, mean: float, cv: float = 0, longest: float = 1e9, count: int = MANY) -> np.ndarray:
    found = np.empty(count)
    np.random.seed(1)
    draw_lengths(found, shape, mean, cv, longest)
    assert (found == np.rint(found)).all()
    assert found.min() >= 1
    assert found.max() <= longest
    return found


def test_fixed_lengths_are_the_mean() -> None:
    assert set(lengths(FIXED, 100)) == {100}
    assert set(lengths(FIXED, 100.4)) == {100}
    assert set(lengths(FIXED, 100, longest=60)) == {60}
    assert set(lengths(FIXED, 0.2)) == {1}


@pytest.mark.parametrize(
    ("shape", "cv", "given_cv"),
    [(UNIFORM, 0.5, 0.5), (LOGNORMAL, 0.5, 0.5), (LOGNORMAL, 1.5, 1.5), (EXPONENTIAL, 1.0, 0.0)],
)
def test_lengths_have_the_mean_and_variation(shape: int, cv: float, given_cv: float) -> None:
    found = lengths(shape, 1000, given_cv)
    error = cv / math.sqrt(MANY)  # of the mean, one deviation
    assert found.mean() == pytest.approx(1000, rel=3 * error)
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.01 if shape == UNIFORM else 0.06)


def test_uniform_lengths_end_where_they_must() -> None:
    found = lengths(UNIFORM, 1000, 0.5)
    assert found.min() == pytest.approx(1000 * (1 - 0.5 * math.sqrt(3)), abs=2)
    assert found.max() == pytest.approx(1000 * (1 + 0.5 * math.sqrt(3)), abs=2)


def test_the_median_of_lognormal_lengths() -> None:
    assert np.median(lengths(LOGNORMAL, 1000, 1)) == pytest.approx(1000 / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize("longest", [1000.0001, 1010, 1200, 2000, 10000, 1e9])
def test_a_capped_exponential_has_the_mean_that_is_asked_for(longest: float) -> None:
    scale = exponential_scale(1000, longest)
    assert -scale * math.expm1(-longest / scale) == pytest.approx(1000, rel=1e-12)
    found = lengths(EXPONENTIAL, 1000, longest=longest)
    assert found.mean() == pytest.approx(1000, rel=0.02)


def test_a_mean_beyond_the_longest_is_the_longest_mostly() -> None:
    assert exponential_scale(1000, 1000) == 1000
    assert lengths(EXPONENTIAL, 1000, longest=100).max() == 100


def gaps(rate: float, cv: float) -> np.ndarray:
    times = np.empty(MANY)
    np.random.seed(2)
    draw_arrivals(times, rate, cv)
    return np.diff(times, prepend=0)


@pytest.mark.parametrize("cv", [0.0, 0.3, 1.0, 2.5])
def test_arrivals_have_the_rate_and_variation(cv: float) -> None:
    found = gaps(4, cv)
    assert found.mean() == pytest.approx(0.25, rel=3 * cv / math.sqrt(MANY) + 1e-12)
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.06, abs=1e-9)


def test_gaps_of_a_poisson_process_are_exponential() -> None:
    found = gaps(1, 1)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert (found < -math.log(1 - share)).mean() == pytest.approx(share, abs=0.01)


def drawn(**changed: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    given = {"length_shape": LOGNORMAL, "input_cv": 1, "output_cv": 1, "input_len": 500, "output_len": 300,
             "max_len": 1e6, "longest_input": 1e6, "longest_output": 1e6}  # fmt: skip
    return draw_requests(WORKLOAD._replace(**{**given, **changed}))


def test_another_rate_gives_the_same_requests_nearer_together() -> None:
    slow, quick = drawn(request_rate=1), drawn(request_rate=4)
    np.testing.assert_allclose(slow[0], 4 * quick[0], rtol=1e-12)
    np.testing.assert_array_equal(slow[1:], quick[1:])


def test_another_mean_gives_the_same_requests_only_longer() -> None:
    short, long = drawn(), drawn(input_len=50000)
    np.testing.assert_array_equal(short[0], long[0])
    np.testing.assert_allclose(short[1], long[1] / 100, atol=0.51)
    np.testing.assert_array_equal(short[2], long[2])


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(drawn(seed=3), drawn(seed=3))
    for one, other in zip(drawn(seed=3), drawn(seed=4), strict=True):
        assert not np.array_equal(one, other)


def test_requests_are_cut_to_the_longest() -> None:
    _, prompts, outputs = drawn(max_len=400)
    assert (prompts + outputs).max() == 400
    assert prompts.max() == 399
    assert outputs.min() == 1
    cut = prompts == 399
    assert (outputs[cut] == 1).all()


def test_a_rank_gets_its_share_of_the_rate_and_all_of_the_requests() -> None:
    one, two = drawn(), drawn(attention_data_parallel=2)
    np.testing.assert_allclose(2 * one[0], two[0], rtol=1e-12)
    assert len(one[0]) == len(two[0]) == 100


def test_clients_have_no_arrivals() -> None:
    arrivals, prompts, _ = drawn(concurrency=3)
    assert np.isnan(arrivals).all()
    np.testing.assert_array_equal(prompts, drawn()[1])


@pytest.mark.parametrize(
    ("concurrency", "ranks", "clients"), [(0, 1, 0), (0, 4, 0), (1, 4, 1), (10, 4, 2), (11, 4, 3), (64, 4, 16)]
)
def test_clients_are_shared_among_ranks(concurrency: float, ranks: float, clients: int) -> None:
    assert clients_of(WORKLOAD._replace(concurrency=concurrency, attention_data_parallel=ranks)) == clients


def trace(**changed: Any) -> Workload:
    return traced([0, 1, 3, 6, 10, math.nan], [5, 6, 7, 8, 9, 0], [1, 2, 3, 4, 70, 0], **changed)


def test_a_trace_is_taken_as_it_is() -> None:
    arrivals, prompts, outputs = draw_requests(trace())
    assert arrivals.tolist() == [0, 1, 3, 6, 10]
    assert prompts.tolist() == [5, 6, 7, 8, 9]
    assert outputs.tolist() == [1, 2, 3, 4, 64 - 9]


def test_a_trace_is_cut_and_shared() -> None:
    assert draw_requests(trace(requests=3))[0].tolist() == [0, 1, 3]
    arrivals, prompts, _ = draw_requests(trace(attention_data_parallel=2))
    assert arrivals.tolist() == [0, 3]
    assert prompts.tolist() == [5, 7]
    assert draw_requests(trace(attention_data_parallel=8))[0].tolist() == [0]


def test_a_trace_can_come_at_another_rate() -> None:
    assert draw_requests(trace(request_rate=4))[0].tolist() == pytest.approx([0, 0.1, 0.3, 0.6, 1])
    # Of two ranks each gets half of the rate: 2 requests/s.
    assert draw_requests(trace(request_rate=4, attention_data_parallel=2))[0].tolist() == pytest.approx([0, 0.5])


def test_rows_end_with_the_first_of_the_last_nans() -> None:
    for rows, count in (([], 0), ([math.nan], 0), ([1, 2], 2), ([1, math.nan, 2, math.nan, math.nan], 3)):
        assert count_rows(np.array(rows, float)) == count


def test_only_the_rate_is_another_at_another_rate() -> None:
    numbered: dict[str, Any] = {name: place for place, name in enumerate(Workload._fields)}
    before = Workload(**numbered)
    after = at_rate(before, 7.5)
    assert after == before._replace(concurrency=0, request_rate=7.5)


# Rows of a trace without times.

INPUTS, OUTPUTS = np.array([10.0, 2000.0, 7.0, np.nan]), np.array([1.0, 100.0, 300.0, np.nan])


PLAIN = Workload(
    concurrency=0, request_rate=2, arrival_cv=1, requests=3000, seed=1, length_shape=0, input_len=5, input_cv=0,
    longest_input=1e9, output_len=5, output_cv=0, longest_output=5, max_len=2048, prefix_hit_rate=0,
    attention_data_parallel=1, trace_times=np.full(4, np.nan), trace_inputs=INPUTS, trace_outputs=OUTPUTS,
)  # fmt: skip


def test_rows_without_times_are_drawn_as_pairs_and_come_at_the_rate() -> None:
    arrival, prompt, output = draw_requests(PLAIN)
    pairs, counts = np.unique(np.stack((prompt, output)), axis=1, return_counts=True)
    assert pairs.T.tolist() == [[7, 300], [10, 1], [2000, 48]]  # the last one is cut to 2048 tokens
    assert counts.tolist() == pytest.approx([1000] * 3, abs=80)
    assert 3000 / arrival[-1] == pytest.approx(2, rel=0.05)


def test_an_empty_series_of_times_is_none_either() -> None:
    _, prompt, _ = draw_requests(PLAIN._replace(trace_times=np.empty(0)))
    assert set(prompt.tolist()) == {7, 10, 2000}


def test_rows_do_not_depend_on_the_rate() -> None:
    slow, fast = draw_requests(PLAIN._replace(request_rate=0.5)), draw_requests(PLAIN._replace(request_rate=5.0))
    assert np.array_equal(slow[1], fast[1])
    assert np.array_equal(slow[2], fast[2])
    assert slow[0] == pytest.approx(10 * fast[0])


def test_clients_that_wait_draw_rows_too() -> None:
    arrival, prompt, _ = draw_requests(PLAIN._replace(concurrency=4.0))
    assert np.isnan(arrival).all()
    assert set(prompt.tolist()) == {7, 10, 2000}


def test_a_trace_with_times_is_taken_in_order() -> None:
    times = np.array([0.0, 1.0, 4.0, np.nan])
    arrival, prompt, output = draw_requests(PLAIN._replace(trace_times=times, request_rate=0.0))
    assert arrival.tolist() == [0, 1, 4]
    assert prompt.tolist() == [10, 2000, 7]
    assert output.tolist() == [1, 48, 300]
