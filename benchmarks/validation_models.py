"""What a validation assumes besides the data: priors of constants, and inputs that launch scripts state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from servegrid.catalog import Catalog

# How strongly all rows of a deployment together pull, against one standard deviation of a prior: constants move by
# what several deployments agree upon.
WEIGHT_OF_DEPLOYMENTS = 0.1

# What datasheets and measurements of single kernels say, before any run of a server was looked at; constants that are
# not named here were not moved by the runs, or were chosen by hand, which leaving a model out does not undo.
_COMMON = {
    "gemm_bandwidth_share_fp8": 0.82,
    "gemm_bandwidth_share_fp4": 0.62,
    "gemm_flops_share_fp8": 0.47,
    "gemm_flops_share_fp4": 0.36,
    "expert_bandwidth_share": 0.85,
    "expert_flops_share": 0.75,
    "kv_bandwidth_share_fp8": 0.66,
    "attention_flops_share": 0.60,
    "kernel_time": 3.5e-6,
    "collective_latency": 4e-6,
    "bulk_latency": 35e-6,
    "link_share": 0.60,
    "prefill_overhead": 4e-3,
    "frontend_time": 20e-3,
}
_OF_ENGINES = {
    "vllm": {"kernel_factor": 1.0, "sequence_time": 10e-6, "admission_steps": 2.5},
    "tensorrt-llm": {"kernel_factor": 0.9, "sequence_time": 10e-6, "admission_steps": 2.5},
    "sglang": {"kernel_factor": 1.0, "sequence_time": 20e-6, "admission_steps": 2.5},
}


def _engine(name: str, priors: Mapping[str, float]) -> dict[str, Any]:
    """An engine of the catalogue as a user's file would state it, with priors in place of what was fitted."""
    entry = Catalog.default().engines[name]
    constants = {key: {"value": constant.value, "spread": constant.spread} for key, constant in entry.constants.items()}
    for key, value in priors.items():
        constants[key] = {**constants[key], "value": value}
    return {"title": entry.title, "aliases": list(entry.aliases), "like": entry.like, "constants": constants}


def engines_of_priors() -> dict[str, Any]:
    """The engines before they were fitted, as content of a catalogue file."""
    return {"engines": {name: _engine(name, priors) for name, priors in {"common": _COMMON, **_OF_ENGINES}.items()}}


def script_steps(runs: pd.DataFrame) -> np.ndarray:
    """Steps until a request is admitted, where the published launch scripts of InferenceMAX state a wait; 2.5 if not.

    SGLang on Blackwell looks for requests every 10 steps, or 30 from 16 clients on (`--scheduler-recv-interval`);
    TensorRT-LLM's script for Llama waits up to 20 steps at 1k/1k on fewer than 8 GPUs (`batch_wait_timeout_iters`);
    with attention data-parallel it waits for 60, on average 30 (`timeout_iters`). They are inputs of the deployment.
    """
    scripted = runs.lengths == "uniform"
    tensorrt = runs.engine == "tensorrt-llm"
    polls = scripted & (runs.engine == "sglang") & runs.hardware.isin(["b200", "b300"])
    gpus = runs.tensor_parallel * runs.attention_data_parallel
    llama = scripted & tensorrt & runs.model.str.startswith("llama") & (runs.nominal_len == "1024/1024") & (gpus < 8)
    wait = np.where(polls, np.where(runs.concurrency >= 16, 30, 10), 0)
    wait = np.where(llama, 20, wait)
    return np.asarray(2.5 + np.where(tensorrt & (runs.attention_data_parallel > 1), 30, wait))
