"""How prompts hold up decoding, and requests each other: stalls, queues, admission.

Little 1961, doi:10.1287/opre.9.3.383, for requests beyond those that run.
"""

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

LITTLE = "Little 1961, doi:10.1287/opre.9.3.383"

# Above this share of time with prompts, the mean wait of an endless stream is that of no finite run.
BUSIEST = 0.9


@quantity(unit="s", long_name="time per token that other requests' prompts take", bounds=NOT_NEGATIVE)
def prefill_stall(
    rank_requests: float,
    prefill_time: float,
    output_len: float,
    rounds: float,
    disaggregated: float,
    pipeline_parallel: float,
) -> float:
    """Return (1 - D) (1 - 1/(2R)) (n - 1) t_p / (o pp): each request is held up by the prompts of the others.

    In the first of R rounds all prompts come first, and stall nobody. Checked for R of 1 and 10; D = 0.
    """
    others = max(rank_requests, 1) - 1
    return (1 - disaggregated) * (1 - 1 / (2 * rounds)) * others * prefill_time / (output_len * pipeline_parallel)


@quantity(unit="s", long_name="mean time per output token of a running request", bounds=POSITIVE)
def token_time(decode_step_time: float, step_tokens: float, prefill_stall: float) -> float:
    """Return t_d / tokens of a step + stall. Checked: median error 7 to 8 %."""
    return decode_step_time / step_tokens + prefill_stall


@quantity(unit="1", long_name="share of a token's time that other requests' prompts take", bounds=NOT_NEGATIVE)
def time_prefill_share(prefill_stall: float, token_time: float) -> float:
    """Return stall / token time."""
    return prefill_stall / token_time


@quantity(unit="s", long_name="wait in the first round, when all clients start together", bounds=NOT_NEGATIVE)
def burst_wait(rank_requests: float, prefill_time: float, rounds: float) -> float:
    """Return t_p (n - 1) / (2 R): half of the others' prompts, in one of R rounds. Checked for R of 1 and 10."""
    return prefill_time * (max(rank_requests, 1) - 1) / (2 * rounds)


@quantity(unit="s", long_name="time until a new request enters a step", bounds=NOT_NEGATIVE)
def admission_wait(admission_steps: float, token_time: float, step_tokens: float) -> float:
    """Return A steps: rest of the running one, polling, batch waiting. Checked for A of 2.5 to 33."""
    return admission_steps * token_time * step_tokens


@quantity(unit="s", long_name="wait behind other prompts", bounds=NOT_NEGATIVE, source="M/D/1 queue")
def prefill_queue(
    rank_requests: float, prefill_time: float, output_len: float, token_time: float, queue_share: float
) -> float:
    """Return t_p r / (2 (1 - r)), r = (n - 1) t_p / (o TPOT), at most 0.9. Checked in closed loops."""
    busy = min((max(rank_requests, 1) - 1) * prefill_time / (output_len * token_time), BUSIEST)
    return queue_share * prefill_time * busy / (2 * (1 - busy))


@quantity(unit="s", long_name="time to first token of a request that finds a place", bounds=POSITIVE)
def placed_ttft(
    frontend_time: float,
    admission_wait: float,
    prefill_time: float,
    burst_wait: float,
    prefill_queue: float,
    transfer_time: float,
) -> float:
    """Return front end + admission + prompt + burst + queue + transfer. Checked: median error 23 to 25 %."""
    return frontend_time + admission_wait + prefill_time + burst_wait + prefill_queue + transfer_time


@quantity(unit="s", long_name="wait for a running request to end", bounds=NOT_NEGATIVE, source=LITTLE)
def slot_wait(
    concurrency: float,
    attention_data_parallel: float,
    rank_requests: float,
    placed_ttft: float,
    output_len: float,
    token_time: float,
) -> float:
    """Return (C/dp - n)/n times the time of a request: those beyond the ones that fit wait. Checked within 4 %."""
    waiting = max(concurrency / attention_data_parallel - rank_requests, 0)
    return waiting / rank_requests * (placed_ttft + output_len * token_time)
