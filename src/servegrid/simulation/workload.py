"""Requests: when they arrive and how long they are, drawn from distributions or taken from a trace.

All draws follow from the seed alone, in the same order whatever the rate and the means: points of a sweep that share a
seed get the same requests, only nearer together or longer, which makes differences between them sharper (common random
numbers; Law 2015, Simulation Modeling and Analysis, section 11.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Codes of the shapes of lengths: their places among these.
SHAPES = ("fixed", "uniform", "lognormal", "exponential")
FIXED = 0
UNIFORM = 1
LOGNORMAL = 2
ROUNDS = 60  # of Newton's method; where the cap is hardly more than the mean, each halves the error


def exponential_scale(mean: float, longest: float) -> float:
    """Return the scale a of min(X, L), X exponential, whose mean is `mean` = a (1 - exp(-L/a))."""
    if mean >= longest:
        return mean
    share = mean / longest
    ratio = 1 / share  # L/a, from above: 1 - exp(-x) - share x is concave, so no step passes its root
    for _ in range(ROUNDS):
        ratio += (np.expm1(-ratio) + share * ratio) / (np.expm1(-ratio) + 1 - share)
    return longest / ratio


def draw_lengths(lengths: np.ndarray, shape: float, mean: float, cv: float, longest: float) -> None:
    """Fill `lengths` (n,) with whole numbers of tokens, 1 or more and `longest` at most.

    fixed: the mean. uniform: mean (1 +- sqrt(3) cv). lognormal: with this mean and cv, before it is capped.
    exponential: capped, the mean that of the capped one.
    """
    variance = np.log(1 + cv * cv)
    scale = exponential_scale(mean, longest)
    for i in range(len(lengths)):
        if shape == FIXED:
            length = mean
        elif shape == UNIFORM:
            length = mean * (1 + np.sqrt(3.0) * cv * (2 * np.random.random() - 1))
        elif shape == LOGNORMAL:
            length = mean * np.exp(np.sqrt(variance) * np.random.standard_normal() - variance / 2)
        else:
            length = scale * np.random.standard_exponential()
        lengths[i] = max(1.0, np.rint(min(length, longest)))


def draw_arrivals(times: np.ndarray, rate: float, cv: float) -> None:
    """Fill `times` (n,) with the arrivals of a renewal process [s]: gaps of mean 1/rate and this variation.

    cv 1: a Poisson process. cv 0: one request every 1/rate. Otherwise gaps have a gamma distribution.
    """
    now = 0.0
    for i in range(len(times)):
        if cv == 0:
            gap = 1.0
        elif cv == 1:
            gap = np.random.standard_exponential()
        else:
            gap = np.random.gamma(1 / (cv * cv), cv * cv)
        now += gap / rate
        times[i] = now


def take_rows(rows: np.ndarray, ranks: int, taken: np.ndarray) -> None:
    """Fill `taken` with every `ranks`-th of the rows: what the first of so many ranks gets."""
    for i in range(len(taken)):
        taken[i] = rows[i * ranks]


def draw_rows(inputs: np.ndarray, outputs: np.ndarray, rows: int, prompt: np.ndarray, output: np.ndarray) -> None:
    """Fill `prompt` and `output` with rows drawn at random, each time from all of them."""
    for i in range(len(prompt)):
        row = int(rows * np.random.random())
        prompt[i], output[i] = inputs[row], outputs[row]


def count_rows(rows: np.ndarray) -> int:
    """Return how many rows there are: the series of shorter traces end with NaN."""
    count = len(rows)
    while count > 0 and np.isnan(rows[count - 1]):
        count -= 1
    return count


class Workload(NamedTuple):
    """The quantities that requests are drawn from."""

    concurrency: float
    request_rate: float
    arrival_cv: float
    requests: float
    seed: float
    length_shape: float
    input_len: float
    input_cv: float
    longest_input: float
    output_len: float
    output_cv: float
    longest_output: float
    max_len: float
    prefix_hit_rate: float
    attention_data_parallel: float
    trace_times: np.ndarray
    trace_inputs: np.ndarray
    trace_outputs: np.ndarray


def at_rate(workload: Workload, rate: float) -> Workload:
    """Return the same requests, coming at another rate, and not from clients that wait."""
    w = workload
    return Workload(
        0.0, rate, w.arrival_cv, w.requests, w.seed, w.length_shape, w.input_len, w.input_cv, w.longest_input,
        w.output_len, w.output_cv, w.longest_output, w.max_len, w.prefix_hit_rate, w.attention_data_parallel,
        w.trace_times, w.trace_inputs, w.trace_outputs,
    )  # fmt: skip


def clients_of(workload: Workload) -> int:
    """Return the clients of one rank; 0 where requests come at a rate."""
    clients = workload.concurrency
    return max(1, int(np.rint(clients / workload.attention_data_parallel))) if clients > 0 else 0


def draw_requests(workload: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrivals [s], prompts and outputs [token] of all requests; arrivals are NaN where clients wait.

    A trace without times gives lengths alone, drawn from its rows. Prompts are cut to the longest request less one
    token, outputs to what is left of it.
    """
    w = workload
    ranks = int(w.attention_data_parallel)
    rows, lengths = count_rows(w.trace_times), count_rows(w.trace_inputs)
    count = int(w.requests)
    if rows > 0:
        count = max(1, min(count, rows) // ranks)
    arrival, prompt, output = np.empty(count), np.empty(count), np.empty(count)
    np.random.seed(int(w.seed))
    if rows > 0:
        take_rows(w.trace_times, ranks, arrival)
        take_rows(w.trace_inputs, ranks, prompt)
        take_rows(w.trace_outputs, ranks, output)
    elif lengths > 0:
        draw_rows(w.trace_inputs, w.trace_outputs, lengths, prompt, output)
    else:
        draw_lengths(prompt, w.length_shape, w.input_len, w.input_cv, w.longest_input)
        draw_lengths(output, w.length_shape, w.output_len, w.output_cv, w.longest_output)
    if w.concurrency > 0:
        arrival[:] = np.nan
    elif rows == 0 and w.request_rate == 0:
        arrival[:] = 0.0
    elif rows == 0:
        draw_arrivals(arrival, w.request_rate / ranks, w.arrival_cv)
    elif w.request_rate > 0 and arrival[count - 1] > 0:
        arrival *= (count - 1) * ranks / arrival[count - 1] / w.request_rate
    for i in range(count):
        prompt[i] = max(min(prompt[i], w.max_len - 1), 1)
        output[i] = max(min(output[i], w.max_len - prompt[i]), 1)
    return arrival, prompt, output
