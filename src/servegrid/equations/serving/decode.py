"""One decode step of all running requests, from its parts."""

from servegrid.quantity import POSITIVE, quantity


@quantity(unit="token", long_name="rows of a decode step of one rank", bounds=POSITIVE)
def decode_tokens(micro_batch: float, draft_len: float) -> float:
    """Return (n/pp) (1 + d): each request's last token, and its draft. Checked without drafts."""
    return micro_batch * (1 + draft_len)


@quantity(unit="token", long_name="rows of a decode step of all ranks", bounds=POSITIVE)
def stage_tokens(decode_tokens: float, attention_data_parallel: float) -> float:
    """Return dp times those of a rank: what experts and collectives work on. Checked for dp 1 and 8."""
    return decode_tokens * attention_data_parallel


@quantity(unit="s", long_name="one decode step", bounds=POSITIVE, better="lower")
def decode_step_time(
    time_weights: float, time_experts: float, time_kv: float, time_collectives: float, time_launch: float
) -> float:
    """Return weights + experts + caches + collectives + launches, one after the other. Checked."""
    return time_weights + time_experts + time_kv + time_collectives + time_launch
