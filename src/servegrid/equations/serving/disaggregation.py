"""Prefill in a pool of its own. Zhong et al. 2024, DistServe, arXiv:2401.09670; not checked against runs."""

from servegrid.quantity import NOT_NEGATIVE, quantity


@quantity(unit="s", long_name="transfer of a prompt's cache to the decode pool", bounds=NOT_NEGATIVE)
def transfer_time(
    disaggregated: float,
    prompt_tokens: float,
    kv_token_bytes: float,
    window: float,
    window_token_bytes: float,
    state_bytes: float,
    transfer_bandwidth: float,
) -> float:
    """Return D (m b + min(m, w) b_w + states) / BW: every device over its own link; 0 in one pool."""
    cache = prompt_tokens * kv_token_bytes + min(prompt_tokens, window) * window_token_bytes + state_bytes
    return disaggregated * cache / transfer_bandwidth
