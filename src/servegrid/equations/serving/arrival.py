"""Requests that arrive at a rate, in place of clients that keep so many open: how many are then in the server.

Little 1961, doi:10.1287/opre.9.3.383. Checked against 72 open-loop runs: below 80 % of saturation TPOT's median error
is 12 %, TTFT is twice too long (that server answers without HTTP); near saturation neither is to be trusted.
"""

from servegrid.quantity import POSITIVE, quantity

LITTLE = "Little 1961, doi:10.1287/opre.9.3.383"


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


@quantity(unit="request", long_name="requests in the server, those that wait included", bounds=POSITIVE, source=LITTLE)
def concurrency(
    request_rate: float,
    saturation_rate: float,
    placed_ttft_alone: float,
    output_len: float,
    token_time_alone: float,
    rank_requests_full: float,
    attention_data_parallel: float,
) -> float:
    """Return min(most, rate L1 / (1 - rate / saturation)): a latency that grows as 1 / (1 - load).

    L1 is the time of a request that is alone. An estimate: requests that end differ from those that arrive by up to
    some 10 %. At saturation and above: the most that can run, so fewer end than arrive.
    """
    latency = placed_ttft_alone + (output_len - 1) * token_time_alone
    load = request_rate / saturation_rate
    most = rank_requests_full * attention_data_parallel
    return min(request_rate * latency / (1 - load), most) if load < 1 else most
