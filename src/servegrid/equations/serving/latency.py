"""What a user sees, and what the server gives; NaN or nothing where the deployment cannot be."""

from math import nan

from servegrid.equations.serving.interference import LITTLE
from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity


@quantity(unit="s", long_name="time per output token", bounds=POSITIVE, better="lower")
def tpot(token_time: float, feasible: float) -> float:
    """Return the mean time per output token. Checked: median error 7 to 8 %."""
    return token_time if feasible else nan


@quantity(unit="s", long_name="inter-token latency", bounds=POSITIVE, better="lower")
def itl(decode_step_time: float, feasible: float) -> float:
    """Return the decode step: from one step's tokens to the next, while no prompt is processed."""
    return decode_step_time if feasible else nan


@quantity(unit="s", long_name="time to first token", bounds=POSITIVE, better="lower")
def ttft(placed_ttft: float, slot_wait: float, feasible: float) -> float:
    """Return the mean over requests, the wait for a place included. Checked: median error 23 to 25 %."""
    return placed_ttft + slot_wait if feasible else nan


@quantity(unit="s", long_name="time of a whole request", bounds=POSITIVE, better="lower")
def request_latency(ttft: float, output_len: float, tpot: float) -> float:
    """Return TTFT + (o - 1) TPOT. Checked."""
    return ttft + (output_len - 1) * tpot


@quantity(
    unit="request/s", long_name="requests that the server ends", bounds=NOT_NEGATIVE, source=LITTLE, better="higher"
)
def requests_per_second(concurrency: float, request_latency: float, feasible: float) -> float:
    """Return C / request time; 0 where nothing fits."""
    return concurrency / request_latency if feasible else 0.0


@quantity(unit="token/s", long_name="output tokens per second", bounds=NOT_NEGATIVE, better="higher")
def throughput(requests_per_second: float, output_len: float) -> float:
    """Return requests per second times o, of the whole server. Checked."""
    return requests_per_second * output_len


@quantity(unit="token/s", long_name="output tokens per second and device", bounds=NOT_NEGATIVE, better="higher")
def throughput_per_gpu(throughput: float, gpus: float) -> float:
    """Return output over devices."""
    return throughput / gpus


@quantity(unit="token/s", long_name="output tokens per second of one user", bounds=POSITIVE, better="higher")
def tokens_per_second_per_user(tpot: float) -> float:
    """Return 1 / TPOT."""
    return 1 / tpot
