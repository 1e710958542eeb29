"""In which format a checkpoint holds each part of a model: `quantization_config`, or a hf_quant_config.json beside it.

Such a file names one format for all matrices and lists the modules that keep 16 bits, or names one for each module.
A part is said to have the format that most of its matrices have, counted over the layers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from servegrid.catalog.architecture import Architecture
from servegrid.catalog.config import ImportRefused
from servegrid.catalog.precision import Part
from servegrid.errors import shown
from servegrid.yamlfile import as_mapping

BASE = "bf16"  # of modules that are not converted
MIXED = "MIXED_PRECISION"
_ALGORITHMS = {"FP8": "fp8", "NVFP4": "nvfp4", "W4A16_AWQ": "int4-weight-only",
               "W4A16_NVFP4": "nvfp4-weight-only"}  # fmt: skip
_METHODS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4"}
# By the type of the numbers, their bits, and the size of the group that shares a scale, where it matters.
_WEIGHTS = {
    ("float", 8, None): "fp8",
    ("float", 4, 16): "nvfp4",
    ("float", 4, 32): "mxfp4",
    ("int", 8, None): "int8",
    ("int", 4, 32): "int4-g32",
    ("int", 4, 128): "int4-weight-only",
}

Said = Callable[[str], str | None]
"""What the file says of the format of a module; None where it says nothing."""


def checkpoint_precision(content: object, shape: Architecture, where: str) -> dict[Part, str]:
    """The format of each part that the model has, and of the KV cache where the checkpoint has scales for it.

    `content` is the `quantization_config` of a config.json, or a hf_quant_config.json. InputError, which begins
    with `where`, for a format that servegrid does not know.
    """
    quantization = as_mapping(as_mapping(content, where).get("quantization", content), where)
    otherwise, said = _formats(quantization, where)
    votes: dict[Part, Counter[str]] = {}
    for part, module, layers in _matrices(shape):
        votes.setdefault(part, Counter())[_format_of(module, layers, shape, said) or otherwise] += layers
    parts = {part: found.most_common(1)[0][0] for part, found in votes.items()}
    for key in ("kv_cache_quant_algo", "kv_cache_scheme"):
        if quantization.get(key):
            parts["kv_cache"] = _algorithm(quantization[key], f"{where}.{key}")
    return parts


def _formats(quantization: Mapping[str, Any], where: str) -> tuple[str, Said]:
    """The format of all modules of which nothing else is said, and what is said of some."""
    lists = ("exclude_modules", "modules_to_not_convert", "ignore")
    excluded = _Names((f"{where}.{key}", str(name)) for key in lists for name in quantization.get(key) or ())
    if quantization.get("quant_algo") != MIXED:
        return _whole(quantization, where), lambda module: BASE if module in excluded else None
    place = f"{where}.quantized_layers"
    listed = {
        _layer_on(name): _algorithm(
            as_mapping(layer, f"{place}.{name}").get("quant_algo"), f"{place}.{name}.quant_algo"
        )
        for name, layer in as_mapping(quantization.get("quantized_layers"), place).items()
    }
    return BASE, lambda module: next((listed[name] for name in _ancestors(module) if name in listed), None)


def _whole(quantization: Mapping[str, Any], where: str) -> str:
    """The one format that the file names: by algorithm (ModelOpt), by method, or by its numbers."""
    if "quant_algo" in quantization:
        return _algorithm(quantization["quant_algo"], f"{where}.quant_algo")
    method = quantization.get("quant_method")
    if method in _METHODS:
        return _METHODS[method]
    if method in ("awq", "gptq"):
        return _numbers({"type": "int", "num_bits": quantization.get("bits"), **quantization}, where)
    groups = quantization.get("config_groups")
    if isinstance(groups, Mapping) and len(groups) == 1:
        place = f"{where}.config_groups"
        group = as_mapping(next(iter(groups.values())), place)
        return _numbers(as_mapping(group.get("weights"), f"{place}.weights"), place)
    raise ImportRefused(f"{where}.quant_method: got {shown(method)}, expected one of {', '.join(_METHODS)}, awq, gptq")


def _algorithm(name: object, where: str) -> str:
    if not isinstance(name, str) or name.upper() not in _ALGORITHMS:
        raise ImportRefused(f"{where}: got {shown(name)}, expected one of {', '.join(_ALGORITHMS)}")
    return _ALGORITHMS[name.upper()]


def _numbers(weights: Mapping[str, Any], where: str) -> str:
    """The format with these numbers; the size of a group matters for those of 4 bits."""
    bits = weights.get("num_bits")
    key = weights.get("type"), bits, weights.get("group_size") if bits == 4 else None
    if key not in _WEIGHTS:
        kind, _, group = key
        got = f"{bits} bits of type {kind} in groups of {group}"
        raise ImportRefused(f"{where}: got weights of {got}, expected a format that the catalogue has")
    return _WEIGHTS[key]


def _format_of(module: tuple[str, ...], layers: int, shape: Architecture, said: Said) -> str | None:
    """What the file says of a module in most of the layers that have it; `module` are the names that it may have."""
    # A layer of Nemotron-H's files is one block; of ours, attention or Mamba with the FFN behind it.
    numbers = range(shape.layers + shape.ffn_layers if shape.linear_kind == "mamba2" else shape.layers)
    by_name = [Counter(filter(None, (said(f"layers.{number}.{name}") for number in numbers))) for name in module]
    found = max(by_name, key=Counter.total)
    return found.most_common(1)[0][0] if 2 * found.total() >= layers else None


def _matrices(shape: Architecture) -> Iterator[tuple[Part, tuple[str, ...], int]]:
    """The matrices of each part that the model has: the names that a module may have, and layers that have it."""
    if shape.kv_latent_rank:
        queries = ("q_a_proj", "q_b_proj") if shape.q_latent_rank else ("q_proj",)
        attention: tuple[str, ...] = (*queries, "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
    else:
        attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    for name in attention:
        yield "attention", (f"self_attn.{name}", f"mixer.{name}"), shape.attention_layers
    if shape.linear_layers:
        yield "attention", ("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz", "mixer.in_proj"), shape.linear_layers
        yield "attention", ("linear_attn.out_proj", "mixer.out_proj"), shape.linear_layers
    if shape.dense_ffn_layers:
        yield "ffn", ("mlp.down_proj", "feed_forward.down_proj", "mixer.down_proj"), shape.dense_ffn_layers
    if shape.expert_layers:
        experts = ("mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2", "feed_forward.experts.down_proj",
                   "mixer.experts.0.down_proj")  # fmt: skip
        yield "experts", experts, shape.expert_layers


class _Names:
    """Names of modules as such files write them: with `*`, as `re:` and a regular expression, or parts of a path."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """Each name with its place in the file, for messages."""
        written = [(place, _layer_on(name)) for place, name in names]
        self.patterns = [_pattern(name, place) for place, name in written if name.startswith("re:")]
        self.exact = {name for _, name in written if not name.startswith("re:")}
        self.globs = [name for name in self.exact if "*" in name]

    def __contains__(self, module: str) -> bool:
        if any(pattern.match(module) for pattern in self.patterns):
            return True
        paths = _ancestors(module)
        return any(path in self.exact or any(fnmatchcase(path, glob) for glob in self.globs) for path in paths)


def _pattern(name: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(name.removeprefix("re:"))
    except re.error:
        raise ImportRefused(f"{where}: got {shown(name)}, expected a regular expression after re:") from None


def _layer_on(name: str) -> str:
    """A name without what stands before the number of the layer, which differs between repositories."""
    return name if name.startswith("re:") else re.sub(r"^[\w.]*?\blayers\.", "layers.", name)


def _ancestors(module: str) -> list[str]:
    """The module itself, and the modules that hold it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 1, -1)]
