"""What differs where requests come at a rate, and not from clients that wait for answers (see `arrival`).

They take the place of the equations of the same names where `request_rate` is given.
"""

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

LITTLE = "Little 1961, doi:10.1287/opre.9.3.383"
GATED = "queue that is served all at once, in each pass those who came in the one before"

# Above this share of time with prompts, the mean wait of an endless stream is that of no finite run.
BUSIEST = 0.9


@quantity(unit="request", long_name="requests that one rank decodes", bounds=POSITIVE)
def rank_requests(found_requests: float) -> float:
    """Return those that an arrival runs among, itself included: as many clients would be as busy."""
    return found_requests


@quantity(unit="s", long_name="time until a new request enters a step", bounds=NOT_NEGATIVE)
def admission_wait(admission_steps: float, token_time: float, step_tokens: float, rank_requests: float) -> float:
    """Return A steps where anybody runs, which is so with a chance of 1 - (1 + N/4)^-4 (negative binomial)."""
    chance = 1 / (1 + max(rank_requests - 1, 0) / 4)
    return admission_steps * token_time * step_tokens * (1 - chance * chance * chance * chance)


@quantity(unit="s", long_name="wait behind other prompts", bounds=NOT_NEGATIVE, source=GATED)
def prefill_queue(
    rank_requests: float, prefill_time: float, output_len: float, token_time: float, queue_share: float
) -> float:
    """Return t_p r (1 + 2 r) / (2 (1 - r^2)), r = (n - 1) t_p / (o TPOT), at most 0.9.

    A pass S takes t_d + k t_p for the k that came in the one before: E S = TPOT = t_d / (1 - r), and E S^2 / E S =
    TPOT + r t_p / (1 - r^2). An arrival waits for half of that, then for its own pass, with those of all of it.
    """
    busy = min(max(rank_requests - 1, 0) * prefill_time / (output_len * token_time), BUSIEST)
    return queue_share * prefill_time * busy * (1 + 2 * busy) / (2 * (1 - busy * busy))


@quantity(unit="s", long_name="wait for a running request to end", bounds=NOT_NEGATIVE)
def slot_wait(rate_wait: float) -> float:
    """Return that of a queue; endless from saturation on."""
    return rate_wait


@quantity(unit="request", long_name="requests that run at once", bounds=NOT_NEGATIVE, source=LITTLE, better="higher")
def active_requests(
    request_rate: float,
    load: float,
    placed_ttft: float,
    output_len: float,
    token_time: float,
    rank_requests_full: float,
    attention_data_parallel: float,
    feasible: float,
) -> float:
    """Return rate x time of a request that has a place, mean over time, at most those that fit; 0 where nothing does."""
    most = rank_requests_full * attention_data_parallel
    running = min(request_rate * (placed_ttft + (output_len - 1) * token_time), most) if load < 1 else most
    return running if feasible else 0.0


@quantity(unit="request/s", long_name="requests that the server ends", bounds=NOT_NEGATIVE, better="higher")
def requests_per_second(request_rate: float, saturation_rate: float, feasible: float) -> float:
    """Return those that arrive, at most the rate at which the server is full; 0 where nothing fits."""
    return min(request_rate, saturation_rate) if feasible else 0.0
