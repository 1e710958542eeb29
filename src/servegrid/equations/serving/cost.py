"""What the tokens cost, in money and in energy."""

from math import nan

from servegrid.quantity import POSITIVE, quantity


@quantity(unit="USD", long_name="price of a million output tokens", bounds=POSITIVE, better="lower")
def cost_per_million_tokens(price_per_hour: float, throughput_per_gpu: float) -> float:
    """Return the hourly price over a million tokens' share of the hour; NaN where nothing fits or no price is known."""
    return price_per_hour / 3600 * 1e6 / throughput_per_gpu if throughput_per_gpu > 0 else nan


@quantity(unit="J", long_name="energy per output token", bounds=POSITIVE, better="lower")
def energy_per_token(power: float, power_share: float, throughput_per_gpu: float) -> float:
    """Return P share / throughput per device; boards alone, no host and no cooling. Not checked."""
    return power * power_share / throughput_per_gpu if throughput_per_gpu > 0 else nan
