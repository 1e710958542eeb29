"""Imports the architecture of a model from the config.json of its Hugging Face repository.

A config.json names the code that reads it (`model_type`); what the code takes for granted is not in the file.
So each family has a function here that turns the file's words, and the family's own habits, into the facts
of an `Architecture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from servegrid.catalog.architecture import Architecture
from servegrid.catalog.config import Config, ImportRefused
from servegrid.catalog.model import Model
from servegrid.catalog.quantization import checkpoint_precision

Facts = dict[str, Any]


def _size(config: Config, tied: bool = False) -> Facts:
    """What every family spells the same. `tied`: what the family takes for granted about the embedding."""
    return {
        "layers": config.count("num_hidden_layers"),
        "hidden_size": config.count("hidden_size"),
        "vocab_size": config.count("vocab_size"),
        "max_context": config.count("max_position_embeddings"),
        "heads": config.count("num_attention_heads"),
        "tied_embeddings": config.flag("tie_word_embeddings", tied),
    }


def _attention(config: Config) -> Facts:
    """Grouped-query attention as in Llama; one `attention_bias` means all four projections."""
    heads = config.count("num_attention_heads", least=1)
    bias = config.flag("attention_bias")
    return {
        "kv_heads": config.count("num_key_value_heads", heads),
        "head_dim": config.count("head_dim", config.count("hidden_size") // heads),
        "attention_bias": bias,
        "attention_output_bias": bias,
    }


def _window(config: Config, windowed_layers: int) -> Facts:
    """Sliding-window attention; a window as long as the context is none."""
    window = config.count("sliding_window", 0)
    if not windowed_layers or not 0 < window < config.count("max_position_embeddings"):
        return {}
    return {"sliding_window": window, "windowed_layers": windowed_layers}


def _listed_window(config: Config, otherwise: int) -> Facts:
    """A window in the layers that the file lists as sliding, or in `otherwise` layers if it lists none."""
    kinds = config.kinds("layer_types")
    return _window(config, kinds.count("sliding_attention") if kinds else otherwise)


def _dense_ffn(config: Config) -> Facts:
    return {
        "intermediate_size": config.count("intermediate_size"),
        "ffn_bias": config.flag("mlp_bias"),
    }


def _experts(config: Config, number: str, width: str, per_token: str = "num_experts_per_tok") -> Facts:
    """Routed experts, under the family's keys for their number and inner width."""
    return {
        "experts": config.count(number),
        "experts_per_token": config.count(per_token),
        "expert_intermediate_size": config.count(width),
    }


def _llama(config: Config) -> Facts:
    return {**_size(config), **_attention(config), **_dense_ffn(config)}


def _mistral(config: Config) -> Facts:
    return {**_llama(config), **_window(config, config.count("num_hidden_layers"))}


def _mixtral(config: Config) -> Facts:
    experts = _experts(config, "num_local_experts", "intermediate_size")
    window = _window(config, config.count("num_hidden_layers"))
    return {**_size(config), **_attention(config), **experts, **window}


def _qwen2(config: Config) -> Facts:
    """Qwen 2 has biases on queries, keys and values, which the file does not say."""
    return {**_llama(config), "attention_bias": True, "attention_output_bias": False}


def _qwen3(config: Config) -> Facts:
    return {**_llama(config), "qk_norm": True}


def _qwen_experts(config: Config) -> Facts:
    """Experts in every layer but those listed as `mlp_only_layers`; Qwen 3.5 adds a gated shared one."""
    facts = _experts(config, "num_experts", "moe_intermediate_size")
    dense = config.kinds("mlp_only_layers")
    if dense:
        facts |= {"dense_layers": len(dense), "intermediate_size": config.count("intermediate_size")}
    shared = config.count("shared_expert_intermediate_size", 0)
    if shared:
        facts |= {"shared_experts": 1, "shared_expert_intermediate_size": shared, "shared_expert_gate": True}
    return facts


def _qwen3_moe(config: Config) -> Facts:
    return {**_size(config), **_attention(config), "qk_norm": True, **_qwen_experts(config)}


def _qwen3_hybrid(config: Config) -> Facts:
    """Qwen 3 Next and 3.5: gated delta nets, and one gated full attention in every few layers."""
    layers = config.count("num_hidden_layers")
    kinds = config.kinds("layer_types")
    full = layers // config.count("full_attention_interval", 4, least=1)
    return {
        **_size(config),
        **_attention(config),
        "qk_norm": True,
        "attention_output_gate": config.flag("attn_output_gate", True),
        "linear_layers": kinds.count("linear_attention") if kinds else layers - full,
        "linear_key_heads": config.count("linear_num_key_heads"),
        "linear_key_head_dim": config.count("linear_key_head_dim"),
        "linear_value_heads": config.count("linear_num_value_heads"),
        "linear_value_head_dim": config.count("linear_value_head_dim"),
        "linear_conv_width": config.count("linear_conv_kernel_dim"),
    }


def _qwen3_hybrid_dense(config: Config) -> Facts:
    return {**_qwen3_hybrid(config), **_dense_ffn(config)}


def _qwen3_hybrid_moe(config: Config) -> Facts:
    return {**_qwen3_hybrid(config), **_qwen_experts(config)}


def _gemma2(config: Config) -> Facts:
    """Every other layer has a window, the first one included; two norms around each part."""
    layers = config.count("num_hidden_layers")
    return {
        **_size(config, tied=True),
        **_attention(config),
        **_dense_ffn(config),
        **_listed_window(config, otherwise=(layers + 1) // 2),
        "norms_per_layer": 4,
    }


# What transformers takes for granted for Gemma 3; the multimodal repositories leave these keys out.
_GEMMA3_DEFAULTS = {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}


def _gemma3(config: Config) -> Facts:
    """As Gemma 2, with normalised queries and keys and full attention in every sixth layer only."""
    config = Config({**_GEMMA3_DEFAULTS, **config.values}, config.title)
    layers = config.count("num_hidden_layers")
    full = layers // config.count("sliding_window_pattern", 6, least=1)
    return {**_gemma2(config), **_listed_window(config, otherwise=layers - full), "qk_norm": True}


def _indexer(config: Config) -> Facts:
    """Sparse attention: an indexer in each layer, or in those that the file lists as `full`."""
    if not config.count("index_n_heads", 0):
        return {}
    kinds = config.kinds("indexer_types")
    return {
        "index_layers": kinds.count("full") if kinds else config.count("num_hidden_layers"),
        "index_heads": config.count("index_n_heads"),
        "index_head_dim": config.count("index_head_dim"),
        "index_top_k": config.count("index_topk"),
    }


def _deepseek(config: Config) -> Facts:
    """Latent attention, first layers dense, shared experts as wide as routed ones; also Kimi K2 and GLM 5."""
    dense = config.count("first_k_dense_replace", 0)
    shared = config.count("n_shared_experts", 0)
    facts: Facts = {
        **_size(config),
        "kv_heads": config.count("num_key_value_heads"),
        "q_latent_rank": config.count("q_lora_rank", 0),
        "kv_latent_rank": config.count("kv_lora_rank"),
        "qk_nope_head_dim": config.count("qk_nope_head_dim"),
        "rope_head_dim": config.count("qk_rope_head_dim"),
        "v_head_dim": config.count("v_head_dim"),
        **_indexer(config),
        **_experts(config, "n_routed_experts", "moe_intermediate_size"),
        "dense_layers": dense,
        "intermediate_size": config.count("intermediate_size") if dense else 0,
        "router_bias": config.values.get("topk_method") == "noaux_tc",
    }
    if shared:
        facts |= {
            "shared_experts": shared,
            "shared_expert_intermediate_size": config.count("moe_intermediate_size"),
        }
    return facts


def _gpt_oss(config: Config) -> Facts:
    """Biases everywhere, the router included, and attention sinks."""
    return {
        **_size(config),
        **_attention(config),
        **_experts(config, "num_local_experts", "intermediate_size"),
        **_listed_window(config, otherwise=(config.count("num_hidden_layers") + 1) // 2),
        "attention_sinks": True,
        "ffn_bias": True,
        "router_bias": True,
    }


def _llama4(config: Config) -> Facts:
    """One shared expert in each layer with experts; three of four layers attend within chunks.

    A chunk counts as a window of that size, which is an upper bound: the first token of a chunk attends to
    itself alone. The norm of queries and keys has no weights.
    """
    layers = config.count("num_hidden_layers")
    dense = layers - layers // config.count("interleave_moe_layer_step", 1, least=1)
    # "no_rope_layers" holds a 1 for a layer with rotary positions, which is one that attends within chunks.
    rotary = config.kinds("no_rope_layers")
    return {
        **_size(config),
        **_attention(config),
        "qk_norm": config.flag("use_qk_norm", True),
        "qk_norm_weights": "none",
        "sliding_window": config.count("attention_chunk_size", 8192),
        "windowed_layers": rotary.count("1") if rotary else layers - layers // 4,
        **_experts(config, "num_local_experts", "intermediate_size"),
        "shared_experts": 1,
        "shared_expert_intermediate_size": config.count("intermediate_size"),
        "dense_layers": dense,
        "intermediate_size": config.count("intermediate_size_mlp") if dense else 0,
    }


def _minimax_m2(config: Config) -> Facts:
    return {
        **_size(config),
        **_attention(config),
        "qk_norm": config.flag("use_qk_norm"),
        "qk_norm_weights": "all_heads" if config.values.get("qk_norm_type") == "per_layer" else "head",
        **_experts(config, "num_local_experts", "intermediate_size"),
        "router_bias": config.flag("use_routing_bias"),
    }


def _opt(config: Config) -> Facts:
    """Two-matrix FFN, biases and LayerNorms throughout; the first two rows of positions are padding."""
    return {
        **_size(config, tied=True),
        **_attention(config),
        "attention_bias": True,
        "attention_output_bias": True,
        "intermediate_size": config.count("ffn_dim"),
        "gated_ffn": False,
        "ffn_bias": True,
        "norm_bias": True,
        "learned_positions": config.count("max_position_embeddings") + 2,
    }


def _nemotron_h(config: Config) -> Facts:
    """Mamba 2 (M), attention (*), FFN (-) and experts (E), each a layer of its own in the file's pattern.

    Here a layer is a block of attention or Mamba 2 with the FFN behind it, if there is one.
    """
    pattern = config.text("hybrid_override_pattern")
    number = {kind: pattern.count(kind) for kind in "M*-E"}
    if sum(number.values()) != len(pattern):
        raise config.refuse("hybrid_override_pattern", "only the letters M, *, - and E")
    layers = number["M"] + number["*"]
    facts = {
        **_size(config),
        **_attention(config),
        "head_dim": config.count("attention_head_dim", config.count("head_dim", 128)),
        "layers": layers,
        "layers_without_ffn": layers - number["-"] - number["E"],
        "gated_ffn": False,
        "linear_kind": "mamba2",
        "linear_layers": number["M"],
        "linear_key_heads": config.count("n_groups"),
        "linear_key_head_dim": config.count("ssm_state_size"),
        "linear_value_heads": config.count("mamba_num_heads"),
        "linear_value_head_dim": config.count("mamba_head_dim"),
        "linear_conv_width": config.count("conv_kernel"),
        "intermediate_size": config.count("intermediate_size") if number["-"] else 0,
    }
    return {**facts, **_nemotron_experts(config, number["-"])} if number["E"] else facts


def _nemotron_experts(config: Config, dense_layers: int) -> Facts:
    if config.count("moe_latent_size", 0):
        raise config.refuse("moe_latent_size", "nothing: experts in a latent space are not supported")
    return {
        **_experts(config, "n_routed_experts", "moe_intermediate_size"),
        "shared_experts": config.count("n_shared_experts"),
        "shared_expert_intermediate_size": config.count("moe_shared_expert_intermediate_size"),
        "dense_layers": dense_layers,
        "router_bias": True,
    }


FAMILIES: Mapping[str, Callable[[Config], Facts]] = {
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "deepseek_v32": _deepseek,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gemma3_text": _gemma3,
    "glm_moe_dsa": _deepseek,
    "gpt_oss": _gpt_oss,
    "kimi_k2": _deepseek,
    "llama": _llama,
    "llama4": _llama4,
    "llama4_text": _llama4,
    "minimax_m2": _minimax_m2,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "nemotron_h": _nemotron_h,
    "opt": _opt,
    "phi3": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_5_moe_text": _qwen3_hybrid_moe,
    "qwen3_5_text": _qwen3_hybrid_dense,
    "qwen3_moe": _qwen3_moe,
    "qwen3_next": _qwen3_hybrid_moe,
}
"""The function for each `model_type` that can be imported."""


def from_huggingface(config: Mapping[str, Any], title: str, quantization: Mapping[str, Any] | None = None) -> Model:
    """The model that a config.json describes.

    `config` is the parsed file; of a multimodal model the language model alone is taken (`text_config`).
    `quantization` is a hf_quant_config.json beside it, which goes before `quantization_config` within it.
    The result has no published sizes and no sources: the file has neither. ImportRefused where the family
    (`model_type`) is unknown or a value is missing.
    """
    language = config.get("text_config", config)
    if not isinstance(language, Mapping):
        raise ImportRefused(f"config.json of {title}: text_config: got {language!r}, expected a mapping")
    # Llama 4 and Gemma 3 say only outside of text_config whether embedding and head are one matrix.
    inherited = {key: config[key] for key in ("model_type", "tie_word_embeddings") if key in config}
    language = {**inherited, **language}
    reader = Config(language, title)
    family = reader.text("model_type")
    if family not in FAMILIES:
        raise reader.refuse("model_type", f"one of {', '.join(FAMILIES)}")
    architecture = _architecture(FAMILIES[family](reader), title)
    where = f"hf_quant_config.json of {title}" if quantization else f"config.json of {title}: quantization_config"
    quantization = quantization or language.get("quantization_config") or config.get("quantization_config")
    formats = checkpoint_precision(quantization, architecture, where) if quantization else {}
    return Model(title=title, architecture=architecture, checkpoint_precision=formats)


def _architecture(facts: Facts, title: str) -> Architecture:
    try:
        return Architecture(**facts)
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])
        raise ImportRefused(f"config.json of {title}: {reason}") from None
