"""Importing config.json files: equal to the catalogue where both exist, refused with a reason otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from servegrid.catalog.architecture import Architecture
from servegrid.catalog.config import ImportRefused
from servegrid.catalog.huggingface import from_huggingface
from servegrid.catalog.model import Published
from servegrid.catalog.precision import PARTS
from servegrid.errors import InputError

CONFIGS = Path(__file__).parent / "data" / "configs"


def in_catalog(family: str, name: str) -> Architecture:
    text = files("servegrid.catalog").joinpath("models", f"{family}.yaml").read_text(encoding="utf-8")
    return Architecture(**yaml.safe_load(text)["models"][name]["architecture"])


@pytest.mark.parametrize(
    ("file", "family", "name"),
    [
        ("meta-llama--Meta-Llama-3.1-8B", "llama", "llama-3.1-8b"),
        ("meta-llama--Llama-4-Maverick-17B-128E-Instruct", "llama", "llama-4-maverick"),
        ("Qwen--Qwen3-30B-A3B", "qwen3", "qwen3-30b-a3b"),
        ("Qwen--Qwen3.5-35B-A3B", "qwen3.5", "qwen3.5-35b-a3b"),
        ("deepseek-ai--DeepSeek-V3.2", "deepseek", "deepseek-v3.2"),
        ("openai--gpt-oss-20b", "gpt-oss", "gpt-oss-20b"),
        ("nvidia--Nemotron-H-56B-Base-8K", "nemotron", "nemotron-h-56b"),
        ("MiniMaxAI--MiniMax-M2.5", "minimax", "minimax-m2.5"),
    ],
)
def test_a_published_config_imports_to_the_entry_of_the_catalogue(file: str, family: str, name: str) -> None:
    model = from_huggingface(json.loads((CONFIGS / f"{file}.json").read_text()), "a model")
    assert model.architecture == in_catalog(family, name)
    assert model.title == "a model"
    assert model.published == Published()
    assert model.source is None


LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def imported(changes: Mapping[str, Any]) -> Architecture:
    return from_huggingface({**LLAMA, **changes}, "x").architecture


def test_absent_keys_mean_what_the_family_takes_for_granted() -> None:
    plain = imported({})
    assert (plain.kv_heads, plain.head_dim) == (8, 8)
    assert not plain.tied_embeddings
    qwen2 = imported({"model_type": "qwen2"})
    assert (qwen2.attention_bias, qwen2.attention_output_bias) == (True, False)
    assert imported({"model_type": "qwen3"}).qk_norm
    assert imported({"attention_bias": True}).attention_output_bias
    opt = imported({"model_type": "opt", "ffn_dim": 256})
    assert (opt.learned_positions, opt.tied_embeddings, opt.gated_ffn) == (4098, True, False)


@pytest.mark.parametrize(
    ("changes", "window", "layers"),
    [
        ({"model_type": "mistral", "sliding_window": 1024}, 1024, 4),
        ({"model_type": "mistral", "sliding_window": None}, 0, 0),
        ({"model_type": "phi3", "sliding_window": 262144}, 0, 0),
        ({"model_type": "gemma2", "num_hidden_layers": 5, "sliding_window": 512}, 512, 3),
        ({"model_type": "gemma3_text", "num_hidden_layers": 13, "sliding_window": 512}, 512, 11),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2, "sliding_window": 512}, 512, 2),
        (
            {
                "model_type": "gemma2",
                "sliding_window": 512,
                "layer_types": ["sliding_attention", "x", "x", "x"],
            },
            512,
            1,
        ),
    ],
)
def test_windows(changes: Mapping[str, Any], window: int, layers: int) -> None:
    architecture = imported(changes)
    assert (architecture.sliding_window, architecture.windowed_layers) == (window, layers)


def test_a_multimodal_config_gives_its_language_model() -> None:
    text = {"model_type": "gemma3_text", "num_hidden_layers": 34, "hidden_size": 2560, "sliding_window": 1024}
    config = {
        "model_type": "gemma3",
        "text_config": {**text, "intermediate_size": 10240},
        "vision_config": {},
    }
    assert from_huggingface(config, "Gemma 3 4B").architecture == in_catalog("gemma", "gemma-3-4b")


def test_tying_is_read_outside_of_the_language_model_too() -> None:
    config = {"tie_word_embeddings": True, "text_config": LLAMA}
    assert from_huggingface(config, "x").architecture.tied_embeddings


def test_layers_without_experts() -> None:
    architecture = imported({"model_type": "qwen3_moe", **EXPERTS, "mlp_only_layers": [0, 2]})
    assert (architecture.dense_layers, architecture.intermediate_size) == (2, 128)
    architecture = imported({"model_type": "qwen3_moe", **EXPERTS})
    assert (architecture.dense_layers, architecture.intermediate_size) == (0, 0)


def test_linear_layers_follow_from_the_interval() -> None:
    linear = {
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_num_value_heads": 4,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
    }
    mixed = imported({"model_type": "qwen3_next", **EXPERTS, **linear, "num_hidden_layers": 8})
    assert (mixed.linear_layers, mixed.attention_layers, mixed.attention_output_gate) == (6, 2, True)
    dense = imported({"model_type": "qwen3_5_text", **linear, "layer_types": ["linear_attention"] * 3 + ["x"]})
    assert (dense.linear_layers, dense.intermediate_size, dense.experts) == (3, 128, 0)


def test_a_shared_indexer_counts_once() -> None:
    config = json.loads((CONFIGS / "deepseek-ai--DeepSeek-V3.2.json").read_text())
    every = from_huggingface(config, "x").architecture
    kinds = ["full", *["shared"] * 60]
    one = from_huggingface({**config, "indexer_types": kinds}, "x").architecture
    assert (every.index_layers, one.index_layers) == (61, 1)
    assert every.parameters - one.parameters == 60 * every.indexer_parameters


def test_latent_attention_without_indexer_query_rank_or_shared_expert() -> None:
    config = json.loads((CONFIGS / "deepseek-ai--DeepSeek-V3.2.json").read_text())
    plain = {"index_n_heads": None, "q_lora_rank": None, "n_shared_experts": None, "topk_method": "greedy"}
    architecture = from_huggingface({**config, **plain}, "x").architecture
    assert (architecture.index_layers, architecture.q_latent_rank, architecture.shared_experts) == (0, 0, 0)
    assert not architecture.router_bias


def test_mixtral_has_only_experts() -> None:
    mixtral = imported({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2})
    assert (mixtral.experts, mixtral.expert_intermediate_size, mixtral.intermediate_size) == (8, 128, 0)


def test_chunked_layers_are_those_with_rotary_positions() -> None:
    config = json.loads((CONFIGS / "meta-llama--Llama-4-Maverick-17B-128E-Instruct.json").read_text())
    text = {**config["text_config"], "no_rope_layers": [1, 0] * 24}
    assert from_huggingface({**config, "text_config": text}, "x").architecture.windowed_layers == 24


NEMOTRON_EXPERTS = {
    "hybrid_override_pattern": "ME*EM*E",
    "n_routed_experts": 16,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 128,
}


def nemotron(changes: Mapping[str, Any]) -> Architecture:
    config = json.loads((CONFIGS / "nvidia--Nemotron-H-56B-Base-8K.json").read_text())
    return from_huggingface({**config, **changes}, "x").architecture


def test_a_pattern_of_layers_with_experts() -> None:
    model = nemotron(NEMOTRON_EXPERTS)
    assert (model.layers, model.linear_layers, model.layers_without_ffn, model.expert_layers) == (4, 2, 1, 3)
    assert (model.experts, model.shared_experts, model.intermediate_size) == (16, 1, 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {**LLAMA, "model_type": "bert"},
            "config.json of x: model_type: got 'bert', expected one of deepseek_v2, deepseek_v3,",
        ),
        ({}, "config.json of x: model_type: got nothing, expected a text"),
        ({"text_config": 3}, "config.json of x: text_config: got 3, expected a mapping"),
        (
            {k: v for k, v in LLAMA.items() if k != "hidden_size"},
            "config.json of x: hidden_size: got nothing, expected a whole number, 0 or more",
        ),
        (
            {**LLAMA, "num_hidden_layers": "four"},
            "config.json of x: num_hidden_layers: got 'four', expected a whole number, 0 or more",
        ),
        (
            {**LLAMA, "num_attention_heads": 0},
            "config.json of x: num_attention_heads: got 0, expected a whole number, 1 or more",
        ),
        ({**LLAMA, "num_attention_heads": True}, "num_attention_heads: got true, expected a whole number"),
        (
            {**LLAMA, "tie_word_embeddings": "no"},
            "config.json of x: tie_word_embeddings: got 'no', expected true or false",
        ),
        (
            {**LLAMA, "model_type": "gemma2", "layer_types": "sliding_attention"},
            "config.json of x: layer_types: got 'sliding_attention', expected a list",
        ),
        (
            {**LLAMA, "num_key_value_heads": 3},
            "config.json of x: kv_heads: got 3, expected a divisor of heads (8)",
        ),
        (
            {**LLAMA, "num_hidden_layers": 0},
            "config.json of x: layers: Input should be greater than or equal to 1",
        ),
    ],
)
def test_refusals_say_what_was_got_and_what_was_expected(config: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        from_huggingface(config, "x")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hybrid_override_pattern": "M-X"}, "got 'M-X', expected only the letters M, *, - and E"),
        ({"hybrid_override_pattern": None}, "hybrid_override_pattern: got nothing, expected a text"),
        ({**NEMOTRON_EXPERTS, "moe_latent_size": 64}, "experts in a latent space are not supported"),
    ],
)
def test_refused_patterns(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        nemotron(changes)
    assert message in str(refused.value)


# The formats of a checkpoint.

SHAPES = {
    "deepseek": "deepseek-ai--DeepSeek-V3.2",
    "gpt-oss": "openai--gpt-oss-20b",
    "llama": "meta-llama--Meta-Llama-3.1-8B",
    "minimax": "MiniMaxAI--MiniMax-M2.5",
    "nemotron": "nvidia--Nemotron-H-56B-Base-8K",
    "qwen3.5": "Qwen--Qwen3.5-35B-A3B",
}


def checkpoint(shape: str, quantization: Any) -> str:
    """The formats of attention, dense FFN, experts and KV cache; "-" for a part that has none."""
    config = json.loads((CONFIGS / f"{SHAPES[shape]}.json").read_text())
    formats = from_huggingface(config, "x", quantization).checkpoint_precision
    return " ".join(formats.get(part, "-") for part in PARTS if part != "head")


def named(names: str, layers: int) -> list[str]:
    return [name.format(layer) for layer in range(layers) for name in names.split()]


NVFP4 = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16}
LATENT = "model.layers.{0}.self_attn.q_a_proj model.layers.{0}.self_attn.q_b_proj model.layers.{0}.self_attn.kv_b_proj"
LINEAR = "model.language_model.layers.{0}.linear_attn.out_proj model.language_model.layers.{0}.linear_attn.in_proj_qkv"
# As files of these repositories have it: nvidia/Llama-3.1-70B-Instruct-FP8, DeepSeek-V3.2-NVFP4, GLM-5.1-NVFP4,
# MiniMax-M2.5-NVFP4, Qwen3.5-122B-A10B-NVFP4, Qwen3.6-35B-A3B-NVFP4; moonshotai/Kimi-K2.5; zai-org/GLM-5-FP8.
CHECKPOINTS: dict[str, tuple[str, Any, str]] = {
    "none": ("llama", None, "- - - -"),
    "block fp8": ("deepseek", None, "fp8 fp8 fp8 -"),
    "mxfp4": ("gpt-oss", None, "bf16 - mxfp4 -"),
    "fp8": (
        "llama",
        {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
        "fp8 fp8 - fp8",
    ),
    "most of attention": ("deepseek", {**NVFP4, "exclude_modules": named(LATENT, 61)}, "bf16 nvfp4 nvfp4 fp8"),
    "prediction layer": ("deepseek", {**NVFP4, "exclude_modules": ["model.layers.61*"]}, "nvfp4 nvfp4 nvfp4 fp8"),
    "dense layers": (
        "deepseek",
        {**NVFP4, "exclude_modules": [*named("language_model.model.layers.{}*", 3), "*.self_attn*"]},
        "bf16 bf16 nvfp4 fp8",
    ),
    "norms": (
        "deepseek",
        {"quant_method": "fp8", "modules_to_not_convert": named("model.layers.{}.self_attn.kv_a_layernorm", 61)},
        "fp8 fp8 fp8 -",
    ),
    "block sparse": (
        "minimax",
        {**NVFP4, "exclude_modules": named("model.layers.{0}.block_sparse_moe.gate model.layers.{0}.self_attn*", 62)},
        "bf16 - nvfp4 fp8",
    ),
    "linear attention": (
        "qwen3.5",
        {**NVFP4, "exclude_modules": [
            *(f"model.language_model.layers.{n}.{'self' if n % 4 == 3 else 'linear'}_attn*" for n in range(40)),
        ]},
        "bf16 - nvfp4 fp8",
    ),
    "some of Mamba": (
        "nemotron",
        {**NVFP4, "exclude_modules": named("backbone.layers.{}.mixer.in_proj", 4)},
        "nvfp4 nvfp4 - fp8",
    ),
    "each module": (
        "qwen3.5",
        {
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {
                **{f"model.language_model.layers.{n}.mlp.experts": {"quant_algo": "W4A16_NVFP4"} for n in range(40)},
                **{name: {"quant_algo": "FP8"} for name in named(LINEAR, 40)},
            },
        },
        "fp8 - nvfp4-weight-only -",
    ),
    "int4": (
        "deepseek",
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 4, "group_size": 32}}},
            "ignore": ["lm_head", "re:.*self_attn.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"],
            "kv_cache_scheme": None,
        },
        "bf16 bf16 int4-g32 -",
    ),
    "awq": (
        "llama",
        {"quant_method": "awq", "bits": 4, "group_size": 128},
        "int4-weight-only int4-weight-only - -",
    ),
    "int8": (
        "llama",
        {"config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 8, "group_size": None}}}},
        "int8 int8 - -",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_the_format_of_each_part_of_a_checkpoint(case: str) -> None:
    shape, quantization, formats = CHECKPOINTS[case]
    assert checkpoint(shape, quantization) == formats


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_algo": "FP3"}, ".quant_algo: got 'FP3', expected one of FP8, NVFP4, W4A16_AWQ, W4A16_NVFP4"),
        ({"quant_method": "odd"}, ".quant_method: got 'odd', expected one of fp8, fbgemm_fp8, mxfp4, awq, gptq"),
        (
            {"quant_method": "gptq", "bits": 3, "group_size": 64},
            ": got weights of 3 bits of type int in groups of None, expected a format that the catalogue has",
        ),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "FP5"}, ".kv_cache_quant_algo: got 'FP5', expected one of FP8, "),
        ({"config_groups": {"g": 5}}, ".config_groups: got 5, expected a mapping"),
        ({"quant_algo": "MIXED_PRECISION"}, ".quantized_layers: got nothing, expected a mapping"),
        ({"quantization": []}, ": got a list, expected a mapping"),
        ({"quant_method": "fp8", "ignore": ["re:("]}, ".ignore: got 're:(', expected a regular expression after re:"),
    ],
)
def test_a_format_that_is_not_understood_is_refused(quantization: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        checkpoint("llama", quantization)
    assert str(refused.value).startswith(f"hf_quant_config.json of x{message}")
    with pytest.raises(InputError, match=r"config.json of x: quantization_config"):
        from_huggingface({**LLAMA, "quantization_config": quantization}, "x")
