"""Where the closed form can be trusted, by what the solver `simulation` says of the same step times.

`extrapolated` is about the step times: whether the deployment leaves the range of the measured runs. `validity` is
about queues: in which regime requests that arrive, vary in length, and wait for memory make a mean of this kind wrong,
however long a step takes. Neither implies the other. Figures: `python -m benchmarks.closed_form`, benchmarks/README.md.
"""

from servegrid.quantity import quantity

# Codes of the labels, in the order of VALIDITY.
VALID = 0
INFEASIBLE = 1
OVERLOAD = 2
NEAR_SATURATION = 3
MEMORY_PRESSURE = 4
ARRIVAL_VARIANCE = 5
LENGTH_VARIANCE = 6
EQUAL_LENGTHS = 7
PROMPT_BOUND = 8
FEW_REQUESTS = 9
VALIDITY = (
    *("valid", "infeasible", "overload", "near_saturation", "memory_pressure", "arrival_variance", "length_variance"),
    *("equal_lengths", "prompt_bound", "few_requests"),
)

# Thresholds from the error map (benchmarks/README.md).
LEAST_CLIENTS = 2
LEAST_OUTPUT_CV = 0.2
LARGEST_OUTPUT_CV = 1.5
NEARLY_FULL = 0.8
WELL_FILLED = 1.5


@quantity(unit="1", long_name="where the closed form can be trusted", kind="label", labels=VALIDITY)
def validity(
    feasible: float, concurrency: float, rank_requests_full: float, attention_data_parallel: float, output_cv: float
) -> float:
    """Return the first regime, of clients, in which the simulation differs; elsewhere TPOT and latency are within 6 %.

    TTFT within 16 % there. few_requests: one client of a rank waits for no pass, TTFT is 31 % too long.
    memory_pressure: 0.8 to 1.5 times as many clients as fit, TTFT is up to 73 % too short. equal_lengths: outputs of
    one length keep clients in step, so their prompts come together, and TTFT is 49 to 71 % too short; TPOT holds within
    4 %. length_variance: a variation above 1.5 was not simulated in closed loops. Nor were, anywhere, prompts that vary
    by more than half of their mean.
    """
    clients = concurrency / attention_data_parallel
    filled = clients / rank_requests_full
    spread = LENGTH_VARIANCE if output_cv > LARGEST_OUTPUT_CV else VALID
    equal = EQUAL_LENGTHS if output_cv < LEAST_OUTPUT_CV else spread
    pressed = MEMORY_PRESSURE if filled > NEARLY_FULL and filled < WELL_FILLED else equal
    few = FEW_REQUESTS if clients < LEAST_CLIENTS else pressed
    return few if feasible else INFEASIBLE
