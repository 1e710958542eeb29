"""The quantities that no equation gives: the model's shape, the device, formats, and the deployment."""

from servegrid.equations.engine import ENGINE
from servegrid.equations.inputs import INPUTS
from servegrid.quantity import COUNT, NOT_NEGATIVE, POSITIVE, Bounds, Quantity

FRACTION = Bounds(at_least=0, at_most=1)
BITS = Bounds(at_least=1)

SHARED = tuple(
    INPUTS[name]
    for name in (
        *("parameters", "layers", "hidden_size", "heads"),
        *("hbm_capacity", "hbm_bandwidth", "price_per_hour", "power"),
        *("max_batch_size", "page_size"),
    )
)


def _count(name: str, long_name: str, unit: str = "1") -> Quantity:
    return Quantity(name, unit, long_name, kind="int", bounds=NOT_NEGATIVE)


def _switch(name: str, long_name: str) -> Quantity:
    return Quantity(name, "1", f"{long_name} (1: yes, 0: no)", kind="int", bounds=FRACTION)


MODEL = (
    _count("full_layers", "layers whose attention sees the whole context"),
    _count("windowed_layers", "layers whose attention sees a window"),
    _count("linear_layers", "layers of linear attention or a state space"),
    _count("index_layers", "layers whose indexer chooses the keys of sparse attention"),
    _count("dense_layers", "layers with a dense feed-forward network"),
    _count("expert_layers", "layers with routed experts"),
    Quantity("kv_cache_heads", "1", "key-value heads in the cache (a latent vector is one)", "int", COUNT),
    _count("kv_head_values", "values cached per token, layer and key-value head"),
    _count("prefill_head_dims", "multiply-adds per query head and pair of tokens, in prefill"),
    _count("decode_head_dims", "multiply-adds per query head and pair of tokens, in decode"),
    _switch("latent", "latent attention"),
    _count("window", "tokens that windowed attention sees", "token"),
    _count("index_top_k", "tokens that sparse attention reads (0: all)", "token"),
    _count("index_heads", "heads of the indexer"),
    _count("index_head_dim", "width of a key of the indexer"),
    _count("attention_parameters", "parameters of one attention layer", "parameter"),
    _count("linear_parameters", "parameters of one linear-attention layer", "parameter"),
    _count("indexer_parameters", "parameters of one indexer", "parameter"),
    _count("ffn_parameters", "parameters of one dense feed-forward network", "parameter"),
    _count("shared_parameters", "parameters of the shared experts of a layer", "parameter"),
    _count("expert_parameters", "parameters of one routed expert", "parameter"),
    _count("router_parameters", "parameters of one router", "parameter"),
    _count("embedding_parameters", "parameters of the embedding", "parameter"),
    _count("head_parameters", "parameters of the output projection", "parameter"),
    _switch("gated_ffn", "feed-forward networks have a gate"),
    _switch("tied", "the output projection is the embedding"),
    Quantity("experts", "1", "routed experts of a layer (1 without)", "int", COUNT),
    Quantity("experts_per_token", "1", "routed experts that a token uses (1 without)", "int", COUNT),
    _count("state_values", "values of the state of one linear layer"),
    _count("conv_state_values", "values of the convolution's state of one linear layer"),
    _switch("qk_norm", "queries and keys are normalised"),
    _switch("shared", "layers have shared experts"),
    _switch("balanced_router", "a bias on the router's scores keeps experts evenly used"),
)

HARDWARE = (
    Quantity("link_bandwidth", "byte/s", "scale-up link of one device, one way", bounds=POSITIVE),
    Quantity("link_gpus", "1", "devices that the scale-up link connects", "int", COUNT),
    Quantity("network_bandwidth", "byte/s", "network between nodes, per device, one way", bounds=POSITIVE),
    Quantity("bf16_flops", "FLOP/s", "dense peak at 16 bits", bounds=POSITIVE),
    Quantity("fp8_flops", "FLOP/s", "dense peak at 8 bits, or at 16 where it has none", bounds=POSITIVE),
)

PARTS = {"attention": "attention", "ffn": "dense feed-forward networks", "expert": "experts"}
PRECISION = (
    *(
        Quantity(f"{part}_bytes", "byte", f"size of one weight of {words}, scales included", bounds=POSITIVE)
        for part, words in {**PARTS, "head": "output projection and embedding"}.items()
    ),
    *(
        Quantity(f"{part}_flops", "FLOP/s", f"dense peak at which {words} computes (0: it cannot)", bounds=NOT_NEGATIVE)
        for part, words in {**PARTS, "head": "the output projection"}.items()
    ),
    *(
        Quantity(f"{part}_compute_bits", "1", f"bits of the format in which {words} computes", bounds=BITS)
        for part, words in PARTS.items()
    ),
    *(_switch(f"{part}_quantised", f"inputs of {words} are quantised at every step") for part, words in PARTS.items()),
    _switch("expert_weight_only", "weights of experts are expanded to 16 bits in registers"),
    Quantity("kv_bytes", "byte", "size of one cached value", bounds=POSITIVE),
)

DEPLOYMENT = (
    Quantity("input_len", "token", "mean length of a prompt", bounds=COUNT),
    Quantity("output_len", "token", "mean length of an output", bounds=COUNT),
    Quantity("output_cv", "1", "coefficient of variation of the outputs' lengths", bounds=NOT_NEGATIVE),
    Quantity(
        "concurrency", "request", "clients with one request each, where request_rate is not given", bounds=POSITIVE
    ),
    Quantity(
        "request_rate", "request/s", "requests that arrive per second, where concurrency is not given", bounds=POSITIVE
    ),
    Quantity("arrival_cv", "1", "variation of the gaps between arrivals (1: Poisson, 0: even)", bounds=NOT_NEGATIVE),
    Quantity("tensor_parallel", "1", "devices that share one attention layer", "int", COUNT),
    Quantity("pipeline_parallel", "1", "pipeline stages", "int", COUNT),
    Quantity("attention_data_parallel", "1", "data-parallel ranks of a stage's attention", "int", COUNT),
    Quantity("expert_parallel", "1", "groups that share out the experts of a layer", "int", COUNT),
    Quantity("chunk_size", "token", "tokens of prompts that one pass takes", bounds=COUNT),
    Quantity("max_batched_tokens", "token", "tokens of the largest pass, which memory is set aside for", bounds=COUNT),
    Quantity("max_sampled_rows", "1", "rows of logits of the largest pass", bounds=COUNT),
    Quantity("rounds", "1", "requests that each client sends in turn (many: a steady state)", bounds=COUNT),
    Quantity("prefix_hit_rate", "1", "share of a prompt's tokens that is in the prefix cache", bounds=FRACTION),
    Quantity("draft_len", "token", "tokens that are drafted for each step", bounds=NOT_NEGATIVE),
    Quantity("acceptance", "1", "chance that a drafted token is accepted", bounds=FRACTION),
    Quantity("disaggregated", "1", "share of prompts that a pool of their own processes", bounds=FRACTION),
    Quantity("transfer_bandwidth", "byte/s", "link from prefill to decode pool, per device", bounds=POSITIVE),
    Quantity("power_share", "1", "share of the board power that a device draws while serving", bounds=FRACTION),
    Quantity("visible_share", "1", "share of the memory that the driver leaves", bounds=Bounds(above=0, at_most=1)),
    Quantity("context_bytes", "byte", "memory of the driver's context and communicators", bounds=NOT_NEGATIVE),
    Quantity("graph_bytes", "byte", "memory of captured graphs", bounds=NOT_NEGATIVE),
    Quantity("hidden_bytes", "byte", "size of one value between layers", bounds=POSITIVE),
    Quantity("state_value_bytes", "byte", "size of one value of a linear layer's state", bounds=POSITIVE),
    Quantity("index_value_bytes", "byte", "size of one value of the indexer's keys, scales included", bounds=POSITIVE),
)

SERVING_INPUTS = {
    quantity.name: quantity for quantity in (*SHARED, *MODEL, *HARDWARE, *PRECISION, *DEPLOYMENT, *ENGINE.values())
}
