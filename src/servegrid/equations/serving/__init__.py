"""What a serving engine does: continuous batching with prompts mixed in, on several devices, for any kind of layer.

One file per phenomenon; sizes are per device (GPU), requests and tokens per data-parallel rank unless said otherwise.
A deployment is pp pipeline stages of T = tp x dp devices: dp ranks, each with its own requests, share the experts.

Checked: 1,328 published runs of four models of 8e9 to 671e9 parameters (dense, grouped-query, latent attention,
windowed, mixture of experts) on 1 to 8 GPUs with NVLink, 4 to 512 concurrent requests, prompts of 0.9k to 8k and
outputs of 0.1k to 7.4k tokens, bf16, fp8, nvfp4 and mxfp4; docstrings say "checked" for this range and name what lies
outside. Linear and sparse attention, prefix hits, drafts, pools, pipelines and stages of several nodes: limits alone.
"""

from servegrid.equations.serving import (
    arrival,
    attention,
    collectives,
    cost,
    decode,
    disaggregation,
    engine_memory,
    experts,
    feasibility,
    gemm,
    interference,
    kv_cache,
    latency,
    launch,
    pipeline,
    prefill,
    speculation,
    static,
    validity,
    weights,
)

PHENOMENA = (
    arrival,
    attention,
    collectives,
    cost,
    decode,
    disaggregation,
    engine_memory,
    experts,
    feasibility,
    gemm,
    interference,
    kv_cache,
    latency,
    launch,
    pipeline,
    prefill,
    speculation,
    static,
    validity,
    weights,
)
