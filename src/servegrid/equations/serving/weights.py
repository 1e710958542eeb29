"""Weights by part: what one device holds, and reads in a step. Over all pipeline stages, unless said otherwise."""

from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, quantity

MEGATRON = "Shoeybi et al. 2019, Megatron-LM, section 3, arXiv:1909.08053"


@quantity(unit="1", long_name="devices of the deployment", kind="int", bounds=COUNT)
def gpus(tensor_parallel: float, attention_data_parallel: float, pipeline_parallel: float) -> float:
    """Return tp dp pp. Checked for 1 to 8."""
    return tensor_parallel * attention_data_parallel * pipeline_parallel


@quantity(unit="1", long_name="devices of one pipeline stage", kind="int", bounds=COUNT)
def stage_gpus(tensor_parallel: float, attention_data_parallel: float) -> float:
    """Return T = tp dp: what experts are spread over. Checked for 1 to 8."""
    return tensor_parallel * attention_data_parallel


@quantity(unit="parameter", long_name="attention parameters per device", bounds=NOT_NEGATIVE, source=MEGATRON)
def attention_weights(
    full_layers: float,
    windowed_layers: float,
    linear_layers: float,
    index_layers: float,
    attention_parameters: float,
    linear_parameters: float,
    indexer_parameters: float,
    tensor_parallel: float,
) -> float:
    """Return ((L_f + L_w) W_a + L_l W_l + L_i W_i) / tp. Checked; linear layers and indexers for their limits alone."""
    attention = (full_layers + windowed_layers) * attention_parameters
    return (attention + linear_layers * linear_parameters + index_layers * indexer_parameters) / tensor_parallel


@quantity(unit="parameter", long_name="dense feed-forward parameters per device", bounds=NOT_NEGATIVE, source=MEGATRON)
def ffn_weights(dense_layers: float, ffn_parameters: float, tensor_parallel: float) -> float:
    """Return L_d W_d / tp. Checked."""
    return dense_layers * ffn_parameters / tensor_parallel


@quantity(unit="parameter", long_name="shared-expert parameters per device", bounds=NOT_NEGATIVE, source=MEGATRON)
def shared_weights(expert_layers: float, shared_parameters: float, tensor_parallel: float) -> float:
    """Return L_m W_s / tp. Checked."""
    return expert_layers * shared_parameters / tensor_parallel


@quantity(unit="parameter", long_name="parameters of one expert's shard", bounds=NOT_NEGATIVE)
def expert_weights(expert_parameters: float, expert_parallel: float, stage_gpus: float) -> float:
    """Return W_x ep / T: shared out to ep groups, split as tensors within one. Checked for ep 1 to 8."""
    return expert_parameters * expert_parallel / stage_gpus


@quantity(unit="parameter", long_name="output projection per device", bounds=NOT_NEGATIVE, source=MEGATRON)
def head_weights(head_parameters: float, tensor_parallel: float) -> float:
    """Return V h / tp. Checked."""
    return head_parameters / tensor_parallel


@quantity(unit="byte", long_name="weights that one device holds", bounds=POSITIVE, better="lower")
def weight_memory(
    attention_weights: float,
    ffn_weights: float,
    shared_weights: float,
    expert_layers: float,
    experts: float,
    expert_parameters: float,
    router_parameters: float,
    stage_gpus: float,
    embedding_parameters: float,
    head_parameters: float,
    tied: float,
    tensor_parallel: float,
    attention_bytes: float,
    ffn_bytes: float,
    expert_bytes: float,
    head_bytes: float,
    pipeline_parallel: float,
) -> float:
    """Return (W_a b_a + W_d b_d + W_s b_x + L_m (E W_x b_x / T + W_r b_h) + b_h V h (2 - tied) / tp) / pp.

    Each part in its own format, scales included; routers as embedding and head, in 16 bits. Checked against logged
    weights of 7e9 to 120e9 parameters.
    """
    dense = attention_weights * attention_bytes + ffn_weights * ffn_bytes + shared_weights * expert_bytes
    routed = expert_layers * (experts * expert_parameters * expert_bytes / stage_gpus + router_parameters * head_bytes)
    ends = head_bytes * (embedding_parameters + head_parameters * (1 - tied)) / tensor_parallel
    return (dense + routed + ends) / pipeline_parallel
