"""The static baseline: a batch that reserves the longest request for each, and runs until its longest output ends.

Yu et al. 2022, ORCA, section 2: request-level scheduling. Only limits are checked.
"""

from math import floor, nan

from servegrid.quantity import COUNT, POSITIVE, quantity

ORCA = "Yu et al. 2022, ORCA, OSDI, section 2"


@quantity(unit="token", long_name="longest output of a batch", bounds=COUNT)
def longest_output(output_len: float) -> float:
    """Return o: equal lengths unless one is given."""
    return output_len


@quantity(unit="token", long_name="longest request that memory is reserved for", bounds=COUNT)
def max_len(input_len: float, longest_output: float) -> float:
    """Return s + o_max unless it is given."""
    return input_len + longest_output


@quantity(unit="request", long_name="requests of a static batch in the same memory", bounds=COUNT, source=ORCA)
def static_requests(
    kv_budget: float,
    max_len: float,
    kv_token_bytes: float,
    window: float,
    window_token_bytes: float,
    state_bytes: float,
    rank_requests: float,
    attention_data_parallel: float,
) -> float:
    """Return dp min(n, floor(budget / cache of max_len)), at least one per rank."""
    reserved = max_len * kv_token_bytes + min(max_len, window) * window_token_bytes + state_bytes
    fitting = min(rank_requests, floor(max(kv_budget, 0.0) / reserved))
    return attention_data_parallel * max(fitting, 1)


@quantity(unit="token/s", long_name="output tokens per second of static batches", bounds=POSITIVE, source=ORCA)
def static_throughput(
    static_requests: float,
    output_len: float,
    longest_output: float,
    prefill_time: float,
    decode_step_time: float,
    kv_request_time: float,
    sequence_time: float,
    rank_requests: float,
    attention_data_parallel: float,
    pipeline_parallel: float,
) -> float:
    """Return n_s o / (n_s t_p / dp + o_max t_s): every request is padded to the longest output of its batch.

    t_s is the step without the caches and host work of the requests that are missing.
    """
    ranks = static_requests / attention_data_parallel
    missing = (rank_requests - ranks) / pipeline_parallel
    step = decode_step_time - missing * (kv_request_time + attention_data_parallel * sequence_time)
    return static_requests * output_len / (ranks * prefill_time + longest_output * step)


@quantity(
    unit="1", long_name="throughput of continuous over static batching", bounds=POSITIVE, source=ORCA, better="higher"
)
def speedup_vs_static(throughput: float, static_throughput: float, feasible: float) -> float:
    """Return throughput over that of static batches; NaN where nothing fits."""
    return throughput / static_throughput if feasible else nan
