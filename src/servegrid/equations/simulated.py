"""What a simulation needs, and what follows from it: memory in pages, and the whole server from one of its ranks.

Kwon et al. 2023, section 4, doi:10.1145/3600006.3613165.
"""

from math import ceil, floor

from servegrid.quantity import COUNT, NOT_NEGATIVE, quantity

PAGED_ATTENTION = "Kwon et al. 2023, section 4, doi:10.1145/3600006.3613165"
# Where nothing grows with the context, memory is no limit of the requests' tokens.
ENDLESS = 1e9
# Longer than this many means is no request: exp(-20) of an exponential distribution, 4 deviations of a lognormal one.
LONGEST = 20


@quantity(unit="byte", long_name="one page, on one device", bounds=NOT_NEGATIVE, source=PAGED_ATTENTION)
def page_bytes(kv_token_bytes: float, window_token_bytes: float, page_size: float) -> float:
    """Return p (b + b_w): windows are cached as full layers are, as in the capacity."""
    return (kv_token_bytes + window_token_bytes) * page_size


@quantity(unit="1", long_name="pages of one rank", bounds=NOT_NEGATIVE, source=PAGED_ATTENTION, better="higher")
def pool_pages(kv_capacity_tokens: float, attention_data_parallel: float, page_size: float, page_bytes: float) -> float:
    """Return capacity / (dp p), in whole pages."""
    return floor(kv_capacity_tokens / (attention_data_parallel * page_size)) if page_bytes > 0 else ENDLESS


@quantity(unit="1", long_name="pages of a request besides its tokens", bounds=NOT_NEGATIVE)
def state_pages(state_bytes: float, page_bytes: float) -> float:
    """Return states of linear layers in whole pages."""
    return ceil(state_bytes / page_bytes) if page_bytes > 0 else 0.0


@quantity(unit="s", long_name="time to move one page to the host's memory, or back", bounds=NOT_NEGATIVE)
def swap_page_time(page_bytes: float, swap_bandwidth: float) -> float:
    """Return page / BW: every device over its own link."""
    return page_bytes / swap_bandwidth


def longest_length(mean: float, cv: float, shape: float) -> float:
    """Return the mean for equal lengths (shape 0), mean (1 + 1.74 cv) for uniform ones (1), else 20 means."""
    spread = mean * (1 + 1.74 * cv) if shape == 1 else LONGEST * mean
    return mean if shape == 0 else spread


@quantity(unit="token", long_name="longest prompt", bounds=COUNT)
def longest_input(input_len: float, input_cv: float, length_shape: float) -> float:
    """Return the longest length of this shape, unless it is given."""
    return longest_length(input_len, input_cv, length_shape)


@quantity(unit="token", long_name="longest output", bounds=COUNT)
def longest_output(output_len: float, output_cv: float, length_shape: float) -> float:
    """Return the longest length of this shape, unless it is given."""
    return longest_length(output_len, output_cv, length_shape)


@quantity(unit="token", long_name="longest request that there may be", bounds=COUNT)
def max_len(longest_input: float, longest_output: float) -> float:
    """Return both together, so that no request is cut, unless it is given."""
    return longest_input + longest_output


@quantity(unit="request", long_name="requests that run, mean over time", bounds=NOT_NEGATIVE, better="higher")
def active_requests(rank_requests: float, attention_data_parallel: float) -> float:
    """Return dp times those of a rank."""
    return rank_requests * attention_data_parallel


@quantity(unit="request", long_name="requests that wait, mean over time", bounds=NOT_NEGATIVE, better="lower")
def waiting_requests(rank_waiting: float, attention_data_parallel: float) -> float:
    """Return dp times those of a rank."""
    return rank_waiting * attention_data_parallel


@quantity(unit="byte", long_name="cache of the running requests, on one device", bounds=NOT_NEGATIVE, better="lower")
def kv_memory(used_pages: float, page_bytes: float) -> float:
    """Return the pages that are handed out, mean over time."""
    return used_pages * page_bytes
