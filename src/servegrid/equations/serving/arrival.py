"""Requests that arrive at a rate, in place of clients that keep so many open: how many are then in the server.

Requests that run share the steps evenly, and a step takes longer the more they are: processor sharing with a speed
that depends on the number, in which only the mean of the lengths counts (Cohen 1979, Acta Informatica 12, 245). With a
time per token of a + b n for n requests, their number has a negative binomial distribution of mean N = r o (a + b (N +
1)): an arrival finds N others (Poisson arrivals see time averages), so it runs in a batch of n = N + 1, as one of n
clients does. That is an equation for n, here solved by three secants; each T(n) is a variant of a batch's equations.
Simulated (benchmarks/README.md): TPOT within 10 % below 0.85 of saturation; the solution within 1 % for dense models,
14 % for mixtures of experts with prompts of 4,000 tokens, where the time bends.
"""

from math import inf, sqrt

from servegrid.equations.serving.experts import LARGEST_EXPONENT, decay
from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

SHARING = "Cohen 1979, Acta Informatica 12, 245"
ALLEN = "Allen 1990, Probability, Statistics, and Queueing Theory, section 5.3"

LEAST = 1e-9  # in place of a difference that vanishes
LEAST_APART = 0.01  # bounds the variance where one request more costs as much time as it brings
ROOT_OF_TWICE_PI = 2.5066282746310002


def batch_latency(placed_ttft: float, output_len: float, token_time: float) -> float:
    """Return T = TTFT + (o - 1) TPOT [s]: the time of a request that finds a place."""
    return placed_ttft + (output_len - 1) * token_time


def slope_between(latency: float, other_latency: float, batch: float, other_batch: float) -> float:
    """Return (T - T') / (n - n'), 0 where the batches are the same: what one more request costs each [s]."""
    return (latency - other_latency) / (batch - other_batch) if batch > other_batch else 0.0


def batch_on_line(rate: float, latency: float, slope: float, batch: float, most: float) -> float:
    """Return the n of n = 1 + r (T + slope (n - batch)), at most `most`."""
    at_batch = 1 + rate * latency - batch
    return min(max(batch + at_batch / max(1 - rate * slope, LEAST), 1), most)


def normal_density(z: float) -> float:
    """Return exp(-z^2/2) / sqrt(2 pi)."""
    return decay(min(z * z / 2, LARGEST_EXPONENT)) / ROOT_OF_TWICE_PI


def normal_share(z: float, density: float) -> float:
    """Return the share of a normal distribution below z >= 0 (Abramowitz and Stegun 1964, 26.2.16: within 1e-5)."""
    t = 1 / (1 + 0.33267 * z)
    return 1 - density * t * (0.4361836 + t * (0.9372980 * t - 0.1201676))


@quantity(unit="request", long_name="requests that one rank decodes, alone", bounds=POSITIVE)
def rank_requests_alone() -> float:
    """Return 1."""
    return 1


@quantity(unit="request", long_name="requests that one rank decodes, full", bounds=POSITIVE)
def rank_requests_full(max_active_requests: float, attention_data_parallel: float) -> float:
    """Return the most that can run on one rank, at least one."""
    return max(max_active_requests, attention_data_parallel) / attention_data_parallel


@quantity(unit="request/s", long_name="rate at which the server is full", bounds=POSITIVE, better="higher")
def saturation_rate(
    rank_requests_full: float,
    attention_data_parallel: float,
    output_len: float,
    token_time_full: float,
    prefill_time_full: float,
) -> float:
    """Return dp n / (o TPOT(n) + t_p(n)) for the largest n."""
    return rank_requests_full * attention_data_parallel / (output_len * token_time_full + prefill_time_full)


@quantity(unit="1", long_name="share of the rate at which the server is full", bounds=POSITIVE)
def load(request_rate: float, saturation_rate: float) -> float:
    """Return rate / saturation."""
    return request_rate / saturation_rate


@quantity(unit="request", long_name="requests that one rank decodes, first guess", bounds=POSITIVE, source=SHARING)
def rank_requests_near(
    request_rate: float,
    attention_data_parallel: float,
    placed_ttft_alone: float,
    token_time_alone: float,
    placed_ttft_full: float,
    token_time_full: float,
    output_len: float,
    rank_requests_full: float,
) -> float:
    """Return n = 1 + r T(n) / dp on the line through T(1) and T(most)."""
    alone = batch_latency(placed_ttft_alone, output_len, token_time_alone)
    full = batch_latency(placed_ttft_full, output_len, token_time_full)
    slope = slope_between(full, alone, rank_requests_full, 1)
    return batch_on_line(request_rate / attention_data_parallel, alone, slope, 1, rank_requests_full)


@quantity(unit="request", long_name="requests that one rank decodes, second guess", bounds=POSITIVE, source=SHARING)
def rank_requests_closer(
    request_rate: float,
    attention_data_parallel: float,
    placed_ttft_alone: float,
    token_time_alone: float,
    placed_ttft_near: float,
    token_time_near: float,
    placed_ttft_full: float,
    token_time_full: float,
    output_len: float,
    rank_requests_near: float,
    rank_requests_full: float,
) -> float:
    """Return the n of the line through the first guess and the most, or through 1 where that line has none.

    Where T bends upwards (matrices that turn from reading to computing), the first guess is too high and this one too
    low; where it bends downwards (experts), both are too low, and this one by less.
    """
    rate = request_rate / attention_data_parallel
    alone = batch_latency(placed_ttft_alone, output_len, token_time_alone)
    near = batch_latency(placed_ttft_near, output_len, token_time_near)
    full = batch_latency(placed_ttft_full, output_len, token_time_full)
    rising = slope_between(full, near, rank_requests_full, rank_requests_near)
    lower = batch_on_line(rate, near, rising, rank_requests_near, rank_requests_full)
    flat = slope_between(near, alone, rank_requests_near, 1)
    upper = batch_on_line(rate, near, flat, rank_requests_near, rank_requests_full)
    return lower if 1 + rate * near >= rank_requests_near or lower > 1 + rate * alone else upper


@quantity(unit="s", long_name="what one more request costs each of those that run", source=SHARING)
def crowding(
    request_rate: float,
    attention_data_parallel: float,
    placed_ttft_alone: float,
    token_time_alone: float,
    placed_ttft_near: float,
    token_time_near: float,
    placed_ttft_closer: float,
    token_time_closer: float,
    placed_ttft_full: float,
    token_time_full: float,
    output_len: float,
    rank_requests_near: float,
    rank_requests_closer: float,
    rank_requests_full: float,
) -> float:
    """Return the slope of T from the second guess to the nearest batch on the other side of the solution.

    A batch n is too small where n < 1 + r T(n) / dp. Of the first guess, the most and one request, one is there.
    """
    rate = request_rate / attention_data_parallel
    alone = batch_latency(placed_ttft_alone, output_len, token_time_alone)
    near = batch_latency(placed_ttft_near, output_len, token_time_near)
    closer = batch_latency(placed_ttft_closer, output_len, token_time_closer)
    full = batch_latency(placed_ttft_full, output_len, token_time_full)
    near_is_small = 1 + rate * near >= rank_requests_near
    to_full = slope_between(full, closer, rank_requests_full, rank_requests_closer)
    to_near = slope_between(near, closer, rank_requests_near, rank_requests_closer)
    from_near = slope_between(closer, near, rank_requests_closer, rank_requests_near)
    from_alone = slope_between(closer, alone, rank_requests_closer, 1)
    above = to_full if near_is_small else to_near
    below = from_near if near_is_small else from_alone
    return below if 1 + rate * closer < rank_requests_closer else above


@quantity(unit="request", long_name="requests that an arrival runs among, itself included", bounds=POSITIVE)
def found_requests(
    request_rate: float,
    attention_data_parallel: float,
    load: float,
    placed_ttft_closer: float,
    token_time_closer: float,
    crowding: float,
    output_len: float,
    rank_requests_closer: float,
    rank_requests_full: float,
) -> float:
    """Return the n of the line with this slope through the second guess, at most those that fit; all at saturation."""
    latency = batch_latency(placed_ttft_closer, output_len, token_time_closer)
    rate = request_rate / attention_data_parallel
    found = batch_on_line(rate, latency, crowding, rank_requests_closer, rank_requests_full)
    return found if load < 1 else rank_requests_full


@quantity(unit="request", long_name="deviation of the number of requests of a rank", bounds=POSITIVE, source=SHARING)
def requests_deviation(
    request_rate: float, attention_data_parallel: float, found_requests: float, crowding: float, arrival_cv: float
) -> float:
    """Return sqrt((n - 1) (1 + ca^2) / 2 / (1 - r slope)): that of a negative binomial number for Poisson arrivals."""
    others = max(found_requests - 1, LEAST)
    apart = max(1 - request_rate / attention_data_parallel * crowding, LEAST_APART)
    return sqrt(others * (1 + arrival_cv * arrival_cv) / 2 / apart)


@quantity(unit="1", long_name="places that are free on average, in deviations", bounds=NOT_NEGATIVE)
def free_deviations(found_requests: float, requests_deviation: float, rank_requests_full: float) -> float:
    """Return z = (most - (n - 1)) / deviation."""
    return max(rank_requests_full - max(found_requests - 1, 0), 0) / requests_deviation


@quantity(unit="1", long_name="normal density there", bounds=NOT_NEGATIVE)
def full_density(free_deviations: float) -> float:
    """Return exp(-z^2/2) / sqrt(2 pi)."""
    return normal_density(free_deviations)


@quantity(unit="s", long_name="wait for a place where requests come at a rate", bounds=NOT_NEGATIVE, source=ALLEN)
def rate_wait(
    request_rate: float,
    attention_data_parallel: float,
    load: float,
    free_deviations: float,
    full_density: float,
    requests_deviation: float,
    arrival_cv: float,
    output_cv: float,
) -> float:
    """Return Q dp / r, Q = f p / (1 - p)^2 / (F + f p / (1 - p)) (ca^2 + cv^2) / 2, p the load; endless from 1 on.

    F and f: distribution and density of a normal number of requests at the most that can run; beyond that it falls by p
    with each that waits. The variance of arrivals and lengths is taken in by Allen and Cunneen's factor.
    """
    density = full_density / requests_deviation
    idle = max(1 - load, LEAST)
    beyond = density * load / idle
    waiting = beyond / idle / (normal_share(free_deviations, full_density) + beyond)
    variation = (arrival_cv * arrival_cv + output_cv * output_cv) / 2
    return waiting * variation * attention_data_parallel / request_rate if load < 1 else inf
