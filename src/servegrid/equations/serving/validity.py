"""Where the closed form can be trusted, by what the solver `simulation` says of the same step times."""

from servegrid.quantity import quantity

# Codes of the labels, in the order of VALIDITY.
VALID = 0
INFEASIBLE = 1
OVERLOAD = 2
NEAR_SATURATION = 3
MEMORY_PRESSURE = 4
LENGTH_VARIANCE = 5
BURSTS = 6
EQUAL_LENGTHS = 7
FEW_REQUESTS = 8
VALIDITY = (
    *("valid", "infeasible", "overload", "near_saturation", "memory_pressure", "length_variance", "bursts"),
    *("equal_lengths", "few_requests"),
)


@quantity(unit="1", long_name="where the closed form can be trusted", kind="label", labels=VALIDITY)
def validity(feasible: float) -> float:
    """Return."""
    return VALID if feasible else INFEASIBLE
