"""Requests that a simulation draws: here from the rows of a trace that has no times."""

import numpy as np
import pytest

from servegrid.simulation.workload import Workload, draw_requests

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
