"""Facts that labels give, against arithmetic from published configurations; and which labels a solver knows."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import pytest
import xarray as xr

import servegrid as sg
from servegrid import facts
from servegrid.catalog import Catalog
from servegrid.equations.engine import ENGINE
from servegrid.errors import InputError
from servegrid.quantity import Quantity
from servegrid.solvers import SIMULATION

CATALOG = Catalog.default()
NAMES = facts.FACTS.keys() - {"bytes_per_element", "peak_flops"}


def of(**labels: str) -> dict[str, float]:
    return facts.of_entries(CATALOG, labels, NAMES)


def test_a_dense_model() -> None:
    """Llama 3.1 70B: 80 layers, 8192 wide, 64 heads of 128, 8 of keys and values, FFN 28672."""
    found = of(model="llama-3.1-70b")
    expected = {
        "full_layers": 80, "windowed_layers": 0, "linear_layers": 0, "dense_layers": 80, "expert_layers": 0,
        "kv_cache_heads": 8, "kv_head_values": 256, "prefill_head_dims": 256, "decode_head_dims": 256, "latent": 0,
        "attention_parameters": 2 * 8192 * 8192 + 2 * 8192 * 1024, "ffn_parameters": 3 * 8192 * 28672,
        "head_parameters": 128256 * 8192, "embedding_parameters": 128256 * 8192, "tied": 0, "gated_ffn": 1,
        "experts": 1, "experts_per_token": 1, "expert_parameters": 0, "shared": 0, "balanced_router": 0, "window": 0,
        "index_top_k": 0, "indexer_parameters": 0, "state_values": 0, "conv_state_values": 0, "qk_norm": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_latent_attention_with_experts() -> None:
    """DeepSeek V3: 128 heads, latent 512 + 64, keys 128 + 64, values 128, 256 experts 2048 wide, 3 dense layers."""
    found = of(model="deepseek-v3")
    expected = {
        "full_layers": 61, "dense_layers": 3, "expert_layers": 58, "latent": 1, "kv_cache_heads": 1,
        "kv_head_values": 512 + 64, "prefill_head_dims": 128 + 64 + 128, "decode_head_dims": 512 + 64 + 512,
        "experts": 256, "experts_per_token": 8, "expert_parameters": 3 * 7168 * 2048,
        "shared_parameters": 3 * 7168 * 2048, "ffn_parameters": 3 * 7168 * 18432, "shared": 1, "balanced_router": 1,
        "router_parameters": 256 * 7169,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    queries = 7168 * 1536 + 1536 + 1536 * 128 * 192
    keys = 7168 * 576 + 512 + 512 * 128 * 256
    assert found["attention_parameters"] == queries + keys + 128 * 128 * 7168


def test_sparse_attention() -> None:
    """DeepSeek V3.2: an indexer of 64 heads of 128 in each of 61 layers, which selects 2048 tokens."""
    found = of(model="deepseek-v3.2")
    assert [found[f"index_{name}"] for name in ("layers", "heads", "head_dim", "top_k")] == [61, 64, 128, 2048]
    assert found["indexer_parameters"] == 1536 * 64 * 128 + 7168 * 128 + 2 * 128 + 7168 * 64


def test_windows() -> None:
    """gpt-oss 120B: 36 layers, half of them with a window of 128; biases on FFN and router."""
    found = of(model="gpt-oss-120b")
    assert (found["full_layers"], found["windowed_layers"], found["window"]) == (18, 18, 128)
    assert (found["balanced_router"], found["dense_layers"], found["experts"]) == (0, 0, 128)


def test_states() -> None:
    """Qwen 3.5 397B: 45 of 60 layers gated delta nets, 64 heads of 128 x 128, a convolution over 4 tokens."""
    found = of(model="qwen3.5-397b-a17b")
    assert (found["full_layers"], found["linear_layers"], found["layers"]) == (15, 45, 60)
    assert found["state_values"] == 64 * 128 * 128
    assert found["conv_state_values"] == 3 * (2 * 16 * 128 + 64 * 128)
    assert of(model="nemotron-h-56b")["gated_ffn"] == 0


def test_a_tied_head_is_read_all_the_same() -> None:
    found = of(model="qwen3-0.6b")
    assert found["tied"] == 1
    assert found["head_parameters"] == found["embedding_parameters"] == 151936 * 1024


@pytest.mark.parametrize("model", CATALOG.models)
def test_the_parts_add_up_to_the_parameters(model: str) -> None:
    """All but the norms between the parts, which are less than a thousandth."""
    found = of(model=model)
    layers = (
        (found["full_layers"] + found["windowed_layers"]) * found["attention_parameters"]
        + found["linear_layers"] * found["linear_parameters"]
        + found["index_layers"] * found["indexer_parameters"]
        + found["dense_layers"] * found["ffn_parameters"]
        + found["expert_layers"] * (found["shared_parameters"] + found["router_parameters"])
        + found["expert_layers"] * found["experts"] * found["expert_parameters"]
    )
    total = layers + found["embedding_parameters"] + (1 - found["tied"]) * found["head_parameters"]
    assert 0.999 < total / found["parameters"] <= 1


@pytest.mark.parametrize(
    ("hardware", "link_gpus", "network"),
    [("h100", 8, 50e9), ("gb200", 72, 100e9), ("h100-nvl", 2, None), ("tpu-v5p", 8960, 6.25e9),
     ("trainium-1", 16, 6.25e9)],
)  # fmt: skip
def test_links(hardware: str, link_gpus: float, network: float | None) -> None:
    found = of(hardware=hardware)
    assert found["link_gpus"] == link_gpus
    assert isnan(found["network_bandwidth"]) if network is None else found["network_bandwidth"] == network


def test_a_link_of_the_catalogue_has_the_bandwidth_that_accelerators_state() -> None:
    linked = [CATALOG.device(name) for name in CATALOG.accelerators]
    assert sum(device.link is not None for device in linked) == 33
    for device in linked:
        assert device.link is None or device.link.bandwidth == device.accelerator.link_bandwidth
        assert device.network is None or device.network.connects is None


def test_every_value_of_a_link_has_a_source() -> None:
    used = {key for link in CATALOG.links.values() for key in (link.source, *link.source_of.values())}
    assert used == set(CATALOG.sources["link", "pcie-4"])
    networks = ("network", "network_bandwidth", "link_gpus")
    for name, accelerator in CATALOG.accelerators.items():
        given = {fact for fact in networks if getattr(accelerator, fact) is not None}
        assert given == set(networks) & set(accelerator.source_of), name


def test_a_board_of_the_user_may_have_a_link_of_its_own() -> None:
    board = {
        "title": "Mine", "vendor": "me", "release_year": 2030, "memory_capacity": "1 TiB", "memory_bandwidth": "9 TB/s",
        "memory_type": "HBM9", "peak_flops": {"bf16": "9 PFLOP/s"}, "link": "wires", "link_bandwidth": "64 GB/s",
    }  # fmt: skip
    links = {"wires": {"title": "Wires", "bandwidth": "64 GB/s", "connects": 3}}
    unknown = CATALOG.extended({"accelerators": {"mine": board}})
    assert isnan(unknown.device("mine").link_gpus)
    assert unknown.extended({"links": links}).device("mine").link_gpus == 3
    own = {"accelerators": {"mine": {**board, "link_gpus": 4, "network": "InfiniBand NDR"}}}
    assert (CATALOG.extended(own).device("mine").link_gpus, CATALOG.extended(own).device("mine").network_bandwidth) == (
        4, 50e9,
    )  # fmt: skip


def test_a_scheme_on_a_device() -> None:
    """gpt-oss's checkpoint: on H100 its experts are expanded to 16 bits, on B200 they are computed in 4."""
    old, new = (of(hardware=device, precision="mxfp4-experts") for device in ("h100", "b200"))
    assert (old["expert_bytes"], old["attention_bytes"], old["head_bytes"], old["kv_bytes"]) == (0.53125, 2, 2, 1)
    assert (old["expert_quantised"], old["attention_quantised"], old["ffn_quantised"]) == (1, 0, 0)
    assert (old["expert_flops"], old["expert_compute_bits"], old["expert_weight_only"]) == (989.4e12, 16, 1)
    assert (new["expert_flops"], new["expert_compute_bits"], new["expert_weight_only"]) == (9e15, 4, 0)
    assert old["attention_flops"] == old["ffn_flops"] == old["head_flops"] == 989.4e12
    assert old["attention_compute_bits"] == old["ffn_compute_bits"] == 16


def test_kv_precision_stands_in_for_that_of_the_scheme() -> None:
    assert of(precision="fp8")["kv_bytes"] == 1
    assert of(precision="fp8", kv_precision="bf16")["kv_bytes"] == 2
    assert of(precision="bf16", kv_precision="nvfp4") == {**of(precision="bf16"), "kv_bytes": 0.5625}
    with pytest.raises(InputError, match="precision: got 'NVFP4 in FFN and experts, attention in bf16', which"):
        of(precision="bf16", kv_precision="nvfp4-ffn")


def test_an_engine_gives_its_constants() -> None:
    assert of(engine="sglang") == {name: constant.value for name, constant in CATALOG.constants("sglang").items()}
    with pytest.raises(InputError, match="the engine common gives no kernel_factor"):
        of(engine="common")


# Along axes.


def test_facts_lie_along_the_axes_of_their_labels() -> None:
    labels = {
        "hardware": xr.DataArray(["h100-sxm", "b200", "h100-sxm"], dims="case"),
        "precision": xr.DataArray(["bf16", "nvfp4"], dims="precision"),
        "engine": xr.DataArray("vllm"),
        "kv_precision": xr.DataArray(["fp8", "bf16"], dims="kv_precision"),
    }
    found = facts.along(CATALOG, labels, {"ffn_flops", "kv_bytes", "step_time", "power", "hidden_size"})
    assert {name: array.dims for name, array in found.items()} == {
        "ffn_flops": ("case", "precision"), "kv_bytes": ("kv_precision",), "step_time": (), "power": ("case",),
    }  # fmt: skip
    np.testing.assert_array_equal(found["ffn_flops"], [[989.4e12, 989.4e12], [2.25e15, 9e15], [989.4e12, 989.4e12]])
    np.testing.assert_array_equal(found["kv_bytes"], [1, 2])
    assert list(facts.sources(CATALOG, "step_time", labels)) == ["vllm"]
    assert set(facts.sources(CATALOG, "kv_bytes", labels)) == {"fp8", "bf16"}


def test_every_fact_has_a_source() -> None:
    entries = {"model": "gpt-oss-120b", "hardware": "h100-sxm", "precision": "mxfp4-experts", "engine": "vllm"}
    entries |= {"trace": "azure-2023-code", "scheduler": "paged", "lengths": "uniform"}
    labels = {label: xr.DataArray(name) for label, name in entries.items()}
    for name in (*facts.FACTS, *facts.SERIES):
        assert facts.sources(CATALOG, name, labels), name


# Solvers.


def test_a_solver_knows_the_labels_whose_facts_it_asks_for() -> None:
    assert list(facts.labels_of(sg.CONTINUOUS_BATCHING)) == ["model", "hardware", "precision"]
    more = sg.CONTINUOUS_BATCHING.extended(
        inputs=(
            *(ENGINE["kernel_time"], Quantity("kv_bytes", "byte", "a cached value")),
            Quantity("output_len", "token", "an output"),
        )
    )
    assert list(facts.labels_of(more)) == [label for label in facts.LABELS if label not in ("scheduler", "lengths")]
    assert list(facts.labels_of(SIMULATION)) == list(facts.LABELS)
    assert facts.givers("trace_times") == ("trace",)
    assert facts.givers("ffn_flops") == ("hardware", "precision")
    assert facts.givers("seq_len") == ()


POINT: dict[str, Any] = {
    "model": "llama-3.1-8b", "hardware": "h100", "precision": "fp16", "seq_len": 1024,
}  # fmt: skip


def test_results_of_a_solver_hold_no_facts_that_it_does_not_know() -> None:
    ds = sg.sweep(axes={"model": ["llama-3.1-8b", "llama-3.1-70b"], "hardware": ["h100"]},
                  values={"precision": "fp16", "seq_len": 1024}, outputs=["itl"])  # fmt: skip
    known = {name for name in map(str, ds.coords) if name in facts.FACTS}
    assert known <= sg.CONTINUOUS_BATCHING.names


def test_engine_is_a_free_name_where_the_solver_takes_nothing_from_it() -> None:
    with pytest.raises(InputError, match=r"values.engine: unknown quantity, expected one of the solver continuous"):
        sg.sweep(values={**POINT, "engine": "vllm"})
    own = {"engine": {"a": 0.4, "b": 0.6}}
    ds = sg.sweep(axes={"engine": ["a", "b"]}, values={**POINT, "efficiency": own}, outputs=["ttft"])
    assert ds.ttft.dims == ("engine",)


def test_a_solver_that_asks_for_a_constant_takes_it_from_the_engine() -> None:
    solver = sg.CONTINUOUS_BATCHING.extended(inputs=(ENGINE["frontend_time"],))
    axes = {"engine": ["trtllm", "ideal"]}
    ds = sg.sweep(axes=axes, values=POINT, derive={"wait": "ttft + frontend_time"}, outputs=["ttft"], solver=solver)
    assert list(ds.engine.values) == ["tensorrt-llm", "ideal"]
    assert float(ds.wait[0] - ds.wait[1]) == pytest.approx(0.021)
    assert ds.frontend_time.dims == ("engine",)


def test_a_scheme_of_several_formats_is_refused_where_one_is_asked_for() -> None:
    with pytest.raises(InputError) as refusal:
        sg.sweep(values={**POINT, "precision": "nvfp4-ffn"})
    assert "holds its parts in different formats, expected one format for all of them" in str(refusal.value)
    with pytest.raises(InputError, match="holds its parts in different formats"):
        sg.ContinuousBatchingModel().solve("llama-3.1-8b", "h100", 1024, precision="nvfp4-ffn")
