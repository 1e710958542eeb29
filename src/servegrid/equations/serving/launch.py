"""What a pass costs beside its work: kernels, scheduler, sampler."""

from servegrid.quantity import COUNT, NOT_NEGATIVE, quantity


@quantity(unit="1", long_name="kernels of one pass", bounds=COUNT, source="counted in profiles of engines")
def kernels(
    full_layers: float,
    windowed_layers: float,
    linear_layers: float,
    dense_layers: float,
    expert_layers: float,
    index_layers: float,
    latent: float,
    qk_norm: float,
    shared: float,
    attention_quantised: float,
    ffn_quantised: float,
    expert_quantised: float,
) -> float:
    """Return per layer attention 6 (+1 query/key norm, +2 quantisation), latent 10 (+4), indexer +7, linear 8 (+2).

    Dense 4 (+2), experts 8 (+2), shared experts 3 (+2). Checked; linear layers and indexers are not.
    """
    attention = 10 + 4 * attention_quantised if latent > 0 else 6 + qk_norm + 2 * attention_quantised
    mixers = (full_layers + windowed_layers) * attention + linear_layers * (8 + 2 * attention_quantised)
    routed = 8 + 2 * expert_quantised + shared * (3 + 2 * expert_quantised)
    return mixers + 7 * index_layers + dense_layers * (4 + 2 * ffn_quantised) + expert_layers * routed


@quantity(unit="s", long_name="launches of a step, scheduler and sampler", bounds=NOT_NEGATIVE)
def step_launch_time(kernels: float, kernel_time: float, kernel_factor: float, step_time: float) -> float:
    """Return K t_k f + t_step. Checked."""
    return kernels * kernel_time * kernel_factor + step_time


@quantity(unit="s", long_name="launches and host work of a decode step", bounds=NOT_NEGATIVE, better="lower")
def time_launch(step_launch_time: float, stage_tokens: float, sequence_time: float) -> float:
    """Return launches + N t_seq. Checked for N of 1 to 512."""
    return step_launch_time + stage_tokens * sequence_time
