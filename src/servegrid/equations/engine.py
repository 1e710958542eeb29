"""Constants of an inference engine and its kernels: inputs that the catalogue's engines give, each with its source.

A share is of what the datasheet of the accelerator or of its link prints.
"""

from servegrid.quantity import NOT_NEGATIVE, SHARE, Bounds, Quantity

_SWITCH = Bounds(at_least=0, at_most=1)


def _share(name: str, long_name: str) -> Quantity:
    return Quantity(name, "1", long_name, bounds=SHARE)


def _time(name: str, long_name: str) -> Quantity:
    return Quantity(name, "s", long_name, bounds=NOT_NEGATIVE)


GEMM = (
    _share("gemm_bandwidth_share_bf16", "share of the memory bandwidth at which 16-bit matrices are read"),
    _share("gemm_bandwidth_share_fp8", "share of the memory bandwidth at which 8-bit matrices are read"),
    _share("gemm_bandwidth_share_fp4", "share of the memory bandwidth at which 4-bit matrices are read"),
    _share("gemm_flops_share_bf16", "share of the dense peak that large 16-bit products reach"),
    _share("gemm_flops_share_fp8", "share of the dense peak that large 8-bit products reach"),
    _share("gemm_flops_share_fp4", "share of the dense peak that large 4-bit products reach"),
)

EXPERTS = (
    _share("expert_bandwidth_share", "share of the memory bandwidth at which routed experts are read"),
    _share("expert_flops_share", "rate of a wide grouped product as a share of a dense product's"),
    Quantity("half_width", "1", "inner width of an expert's shard at half that rate", bounds=NOT_NEGATIVE),
    Quantity("expert_tile", "token", "rows to which the tokens of an expert are padded", bounds=NOT_NEGATIVE),
    Quantity("weight_only_bytes", "byte", "cost of expanding a weight to 16 bits, as bytes read", bounds=NOT_NEGATIVE),
    _share("routing_exponent_balanced", "growth of distinct experts with tokens, under a balancing bias"),
    _share("routing_exponent_plain", "growth of distinct experts with tokens, otherwise"),
    _time("expert_parallel_time", "dispatch and combine of one layer with expert parallel"),
)

ATTENTION = (
    _share("kv_bandwidth_share_bf16", "share of the memory bandwidth at which 16-bit caches are read"),
    _share("kv_bandwidth_share_fp8", "share of the memory bandwidth at which 8-bit caches are read"),
    _share("attention_flops_share", "share of the dense 16-bit peak that attention over a prompt reaches"),
)

LINKS = (
    _time("collective_latency", "fixed time of a one-shot collective"),
    _time("collective_latency_per_gpu", "what each device adds to the time of a one-shot collective"),
    _time("bulk_latency", "fixed time of a collective in two bandwidth-optimal rounds"),
    _share("link_share", "share of the link's bandwidth that collectives reach"),
)

HOST = (
    _time("kernel_time", "time of a kernel within a captured graph besides its work"),
    Quantity("kernel_factor", "1", "kernels of this engine for one that is counted", bounds=NOT_NEGATIVE),
    _time("eager_launch_time", "time to launch a kernel outside of captured graphs"),
    _time("step_time", "scheduler and sampler of one step"),
    _time("sequence_time", "host work of one step for each sequence"),
    _time("prefill_overhead", "what a pass with prompts costs besides its work"),
    _time("frontend_time", "tokeniser, HTTP and queue in front of the scheduler, for each request"),
)

SCHEDULER = (
    Quantity("admission_steps", "step", "decode steps until a new request enters one", bounds=NOT_NEGATIVE),
    Quantity("mixed_prefill", "1", "1: prompts share passes with decoding; 0: they have their own", bounds=_SWITCH),
    Quantity("queue_share", "1", "share of the queue behind other prompts that a request meets", bounds=_SWITCH),
    Quantity("output_reserved", "1", "share of the output that is reserved on admission", bounds=_SWITCH),
)

MEMORY = (
    _share("memory_share", "share of the memory that the engine takes"),
    _share("free_share", "share of what weights and activations leave that becomes KV cache"),
)

ENGINE = {quantity.name: quantity for quantity in (*GEMM, *EXPERTS, *ATTENTION, *LINKS, *HOST, *SCHEDULER, *MEMORY)}
