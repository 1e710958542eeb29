"""The memory budget of an engine: what it takes, what passes and graphs need, how many requests the rest holds."""

from math import floor

from servegrid.quantity import NOT_NEGATIVE, POSITIVE, quantity

LOGGED = "checked against logged capacities of 17 deployments: median error 3 %"


@quantity(unit="1", long_name="inner width of the widest feed-forward network", bounds=NOT_NEGATIVE)
def widest_inner(
    ffn_parameters: float,
    shared_parameters: float,
    expert_parameters: float,
    experts_per_token: float,
    hidden_size: float,
    gated_ffn: float,
) -> float:
    """Return max(W_d, W_s + k W_x) / (3 h), or 2 h without a gate: all experts of a token together. Checked."""
    widest = max(ffn_parameters, shared_parameters + experts_per_token * expert_parameters)
    return widest / ((2 + gated_ffn) * hidden_size)


@quantity(unit="byte", long_name="peak of one pass, on one device", bounds=NOT_NEGATIVE, source=LOGGED, better="lower")
def activation_memory(
    max_batched_tokens: float,
    hidden_size: float,
    head_parameters: float,
    tensor_parallel: float,
    widest_inner: float,
    max_sampled_rows: float,
    hidden_bytes: float,
) -> float:
    """Return (m (2 h + 3 w/tp) + 8 B V) b: residual and norm; gate, up and product; logits of B rows.

    Logits are in 32 bits, with a sorted copy, probabilities and logarithms. Checked for m of 1k to 33k.
    """
    layers = max_batched_tokens * (2 * hidden_size + 3 * widest_inner / tensor_parallel)
    return hidden_bytes * (layers + 8 * max_sampled_rows * head_parameters / hidden_size)


@quantity(
    unit="byte",
    long_name="memory left for the KV cache, on one device (negative: the weights do not fit)",
    source=LOGGED,
)
def kv_budget(
    hbm_capacity: float,
    visible_share: float,
    memory_share: float,
    free_share: float,
    weight_memory: float,
    activation_memory: float,
    graph_bytes: float,
    context_bytes: float,
) -> float:
    """Return f (u v capacity - weights - activations - graphs - context).

    Engines take a share u of the total and all of the rest (f = 1), or a share f of what is left (u = 1). Checked.
    """
    taken = weight_memory + activation_memory + graph_bytes + context_bytes
    return free_share * (memory_share * visible_share * hbm_capacity - taken)


@quantity(unit="token", long_name="tokens whose cache fits, of all ranks", bounds=NOT_NEGATIVE, better="higher")
def kv_capacity_tokens(
    kv_budget: float,
    kv_token_bytes: float,
    window_token_bytes: float,
    page_size: float,
    attention_data_parallel: float,
) -> float:
    """Return dp p floor(budget / ((b + b_w) p)): windows are cached as full layers are. Checked, median error 3 %.

    0 where nothing grows with the context, as there is no limit then.
    """
    token = kv_token_bytes + window_token_bytes
    pages = floor(max(kv_budget, 0.0) / (token * page_size)) if token > 0 else 0.0
    return attention_data_parallel * page_size * pages


@quantity(unit="request", long_name="requests whose cache fits one rank", kind="int", bounds=NOT_NEGATIVE)
def kv_capacity_requests(kv_budget: float, kv_bytes_per_request: float) -> float:
    """Return floor(budget / cache of a request); none where the weights leave no room. Checked in queues."""
    return floor(max(kv_budget, 0.0) / kv_bytes_per_request)


@quantity(unit="request", long_name="requests that can run at once", kind="int", bounds=NOT_NEGATIVE, better="higher")
def max_active_requests(kv_capacity_requests: float, max_batch_size: float, attention_data_parallel: float) -> float:
    """Return dp min(what fits, the batch limit of a rank). Checked."""
    return attention_data_parallel * min(kv_capacity_requests, max_batch_size)


@quantity(unit="request", long_name="requests that one rank decodes", bounds=POSITIVE)
def rank_requests(concurrency: float, attention_data_parallel: float, max_active_requests: float) -> float:
    """Return n = min(C, max(n_max, dp)) / dp; at least one request per rank, also where none fits. Checked."""
    return min(concurrency, max(max_active_requests, attention_data_parallel)) / attention_data_parallel


@quantity(unit="request", long_name="requests that run at once", bounds=NOT_NEGATIVE, better="higher")
def active_requests(rank_requests: float, attention_data_parallel: float, feasible: float) -> float:
    """Return n dp; 0 where nothing fits."""
    return rank_requests * attention_data_parallel if feasible else 0.0


@quantity(unit="byte", long_name="cache of the running requests, on one device", bounds=NOT_NEGATIVE, better="lower")
def kv_memory(rank_requests: float, kv_bytes_per_request: float) -> float:
    """Return n times the cache of a request; engines set the whole budget aside."""
    return rank_requests * kv_bytes_per_request


@quantity(unit="byte", long_name="memory in use on one device", bounds=POSITIVE, better="lower")
def memory_per_gpu(
    weight_memory: float, kv_memory: float, activation_memory: float, graph_bytes: float, context_bytes: float
) -> float:
    """Return weights, running caches, activations, graphs and context; more than the device has where nothing fits."""
    return weight_memory + kv_memory + activation_memory + graph_bytes + context_bytes
