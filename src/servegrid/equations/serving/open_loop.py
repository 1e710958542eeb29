"""What differs where requests come at a rate, and not from clients that wait for answers (see `arrival`).

They take the place of the equations of the same names where `request_rate` is given.
"""

from servegrid.equations.serving.interference import BUSIEST, LITTLE
from servegrid.equations.serving.prefill import SARATHI, added_expert_time, added_gemm_time
from servegrid.equations.serving.validity import (
    ARRIVAL_VARIANCE,
    FEW_REQUESTS,
    INFEASIBLE,
    LARGEST_OUTPUT_CV,
    LENGTH_VARIANCE,
    MEMORY_PRESSURE,
    NEAR_SATURATION,
    OVERLOAD,
    PROMPT_BOUND,
    VALID,
    VALIDITY,
)
from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

GATED = "queue that is served all at once, in each pass those who came in the one before"


@quantity(unit="request", long_name="requests that one rank decodes", bounds=POSITIVE)
def rank_requests(found_requests: float) -> float:
    """Return those that an arrival runs among, itself included: as many clients would be as busy."""
    return found_requests


@quantity(unit="request", long_name="requests in the server, those that wait included", bounds=POSITIVE, source=LITTLE)
def concurrency(request_rate: float, request_latency: float) -> float:
    """Return rate x time of a request; endless from saturation on."""
    return request_rate * request_latency


@quantity(unit="s", long_name="dense matrices that a prompt adds", bounds=NOT_NEGATIVE, source=SARATHI)
def prefill_gemm_time(
    attention_read_time: float,
    attention_token_time: float,
    ffn_read_time: float,
    ffn_token_time: float,
    shared_read_time: float,
    shared_token_time: float,
    head_read_time: float,
    prompt_tokens: float,
    fellow_tokens: float,
    prompts_per_step: float,
) -> float:
    """Return (G(k m + fellows) - G(fellows)) / k, and the head for its last token where nobody decodes.

    The k prompts of a pass share what decoding reads anyway: computing on it is free for the first rows alone. Without
    it, prompts of 200 tokens seem free, and TPOT is 40 % short at 90 % of saturation. Clients keep k = 1 here: their
    measured runs are met as well without (TPOT 7.1 %, TTFT 24.9 against 25.0 %).
    """
    decoding = min(fellow_tokens, 1)
    tokens = prompts_per_step * prompt_tokens
    added = added_gemm_time(
        attention_read_time, attention_token_time, ffn_read_time, ffn_token_time, shared_read_time, shared_token_time,
        tokens, fellow_tokens, decoding,
    )  # fmt: skip
    return added / prompts_per_step + (1 - decoding) * head_read_time


@quantity(unit="s", long_name="routed experts that a prompt adds", bounds=NOT_NEGATIVE)
def prefill_expert_time(
    rank_experts: float,
    miss_rate: float,
    experts_per_token: float,
    expert_parallel: float,
    routing_exponent: float,
    expert_read_time: float,
    expert_row_time: float,
    expert_tile: float,
    prompt_tokens: float,
    fellow_tokens: float,
    attention_data_parallel: float,
    prompts_per_step: float,
) -> float:
    """Return the same difference for the experts, all ranks' prompts together."""
    tokens = prompts_per_step * prompt_tokens * attention_data_parallel
    added = added_expert_time(
        rank_experts, miss_rate, experts_per_token, expert_parallel, routing_exponent, expert_read_time,
        expert_row_time, expert_tile, tokens, fellow_tokens * attention_data_parallel, min(fellow_tokens, 1),
    )  # fmt: skip
    return added / prompts_per_step


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
    """Return rate x time of a request that has a place, mean over time, at most those that fit; 0 where none does."""
    most = rank_requests_full * attention_data_parallel
    running = min(request_rate * (placed_ttft + (output_len - 1) * token_time), most) if load < 1 else most
    return running if feasible else 0.0


@quantity(unit="request/s", long_name="requests that the server ends", bounds=NOT_NEGATIVE, better="higher")
def requests_per_second(request_rate: float, saturation_rate: float, feasible: float) -> float:
    """Return those that arrive, at most the rate at which the server is full; 0 where nothing fits."""
    return min(request_rate, saturation_rate) if feasible else 0.0


# More thresholds from the error map (benchmarks/README.md).
HIGHEST_LOAD = 0.85
LONGEST_WAIT = 0.05
LEAST_ARRIVAL_CV = 0.8
LARGEST_ARRIVAL_CV = 1.2
LARGEST_PROMPT_SHARE = 0.45
MOST_PROMPTS_PER_STEP = 0.75
FEWEST_PLACES = 8


@quantity(unit="1", long_name="where the closed form can be trusted", kind="label", labels=VALIDITY)
def validity(
    feasible: float,
    load: float,
    rate_wait: float,
    placed_ttft: float,
    kv_capacity_requests: float,
    max_batch_size: float,
    rank_requests_full: float,
    rank_requests: float,
    time_prefill_share: float,
    output_len: float,
    output_cv: float,
    arrival_cv: float,
) -> float:
    """Return the first regime in which the simulation differs; elsewhere TPOT and latency within 10 %, TTFT 20 %.

    overload: TTFT and latency are endless, throughput holds within 4 %. near_saturation, above 0.85 of the rate at
    which the server is full: TPOT 2 % off in the median, 49 % at most, as the time grows without bound. memory_pressure
    (or near_saturation, where the batch limit binds): the wait for a place is more than 5 % of TTFT, which is 30 to
    50 % short, as prompts vary in what they need; TPOT holds within 4 %. arrival_variance, outside 0.8 to 1.2: TTFT up
    to 80 % short in bursts and 51 % long with even gaps, TPOT 44 and 9 %. length_variance, above 1.5: TPOT up to 21 %
    long (a sample of a few thousand requests lacks the longest). prompt_bound: more than 0.45 of the time goes into
    prompts, or more than 0.75 of them come in each step: TPOT up to 15 %, TTFT 26 % short. few_requests: fewer than 8
    places, for which a normal number of requests is no model.
    """
    waiting = MEMORY_PRESSURE if kv_capacity_requests < max_batch_size else NEAR_SATURATION
    few = FEW_REQUESTS if rank_requests_full < FEWEST_PLACES else VALID
    many_prompts = rank_requests > MOST_PROMPTS_PER_STEP * output_len
    prompts = PROMPT_BOUND if time_prefill_share > LARGEST_PROMPT_SHARE or many_prompts else few
    spread = LENGTH_VARIANCE if output_cv > LARGEST_OUTPUT_CV else prompts
    uneven = ARRIVAL_VARIANCE if arrival_cv < LEAST_ARRIVAL_CV or arrival_cv > LARGEST_ARRIVAL_CV else spread
    full = waiting if rate_wait > LONGEST_WAIT * placed_ttft else uneven
    near = NEAR_SATURATION if load > HIGHEST_LOAD else full
    stable = OVERLOAD if load >= 1 else near
    return stable if feasible else INFEASIBLE
