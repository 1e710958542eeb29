"""What the two papers ran, as cases of the solver `simulation`: deployments, requests, schedulers, rates.

Set-ups and their sources are in `data/papers/README.md`. All cases have the same columns and outputs, so that one
kernel serves them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import servegrid as sg

DATA = Path(__file__).parent / "data" / "papers"
CATALOG = (DATA / "engines.yaml", DATA / "models.yaml")

GIB = 2**30
VOCABULARY = 50272
# cacheflow's memory_analyzer.py: 0.95 of what PyTorch sees, less weights, 1 GiB, and 2,560 rows of logits in 32 bits.
MEMORY = {"memory_share": 0.95, "context_bytes": GIB, "activation_memory": 4 * 2560 * VOCABULARY}
SEEN = {"a100-40gb": 39.41 / 40, "a100-80gb": 79.15 / 80}
SERVERS = {  # Kwon et al., Table 1
    "opt-13b": {"hardware": "a100-40gb", "tensor_parallel": 1},
    "opt-66b": {"hardware": "a100-40gb", "tensor_parallel": 4},
    "opt-175b": {"hardware": "a100-80gb", "tensor_parallel": 8},
}
STAGES = {"gpt-3-13b": 1, "gpt-3-101b": 1, "gpt-3": 2, "gpt-3-341b": 4}  # Yu et al., Table 1
ALLOCATORS = {"orca-max": "Orca (Max)", "orca-pow2": "Orca (Pow2)", "orca-oracle": "Orca (Oracle)", "paged": "vLLM"}
SHAREGPT = {"input_len": 161.31, "output_len": 337.99}  # Kwon et al., Fig 11
# No more than its means is known: outputs and prompts are taken as exponential.
ALPACA = {"input_len": 19.31, "output_len": 58.45, "output_cv": 1, "longest_output": 2048}
MEASURES = [
    *("rank_requests", "kv_states_share", "kv_reserved_share", "kv_internal_share", "kv_free_share"),
    *("normalized_latency", "normalized_latency_p50", "requests_per_second", "preemptions", "kv_capacity_tokens"),
]

Case = Mapping[str, Any]


def sharegpt() -> pd.DataFrame:
    """The lengths of our file, both columns scaled to the published means; 2048 tokens or more are left out."""
    rows = pd.read_csv(DATA / "sharegpt_lengths.csv")
    scaled = pd.DataFrame(
        {name: np.maximum(np.rint(rows[name] * mean / rows[name].mean()), 1) for name, mean in SHAREGPT.items()}
    ).astype(int)
    return scaled[scaled.sum(axis=1) < 2048]


def traces() -> dict[str, Any]:
    """The requests of both papers, as content of a catalogue file."""
    rows = sharegpt()
    means = {f"{name}_len": float(rows[f"{name}_len"].mean()) for name in ("input", "output")}
    whole = {"output_cv": float(rows.output_len.std(ddof=0) / rows.output_len.mean()), "longest_output": 2048}
    # Uniform lengths from a to b: cv = (b - a) / (a + b) / sqrt(3).
    uniform = {
        **{"input_len": (32 + 512) / 2, "input_cv": 480 / 544 / 3**0.5, "longest_input": 512},
        **{"output_len": (1 + 128) / 2, "output_cv": 127 / 129 / 3**0.5, "longest_output": 128},
    }
    fixed = {"input_len": 128, "output_len": 32, "output_cv": 0, "longest_output": 32}
    return {
        "traces": {
            "sharegpt": {"title": "ShareGPT, scaled", **means, **whole, "rows": rows.to_csv(index=False)},
            "alpaca": {"title": "Alpaca, exponential", **ALPACA, "longest_input": 1024, "lengths": "exponential"},
            "orca": {"title": "Yu et al., section 6.2", **uniform, "lengths": "uniform"},
            "orca-fixed": {"title": "Yu et al., section 6.1", **fixed, "lengths": "fixed"},
        }
    }


def kwon(model: str = "opt-13b", scheduler: str = "paged", rate: float = 2, seconds: float = 3600, **more: Any) -> Case:
    """Requests at a rate for so long, to an engine of Kwon et al. `skipped`: seconds that are not counted."""
    skipped = more.pop("skipped", 0)
    return {
        **{"model": model, **SERVERS[model], "pipeline_parallel": 1, "engine": "vllm-2023", "step_time": 9e-3},
        **{"trace": "sharegpt", "page_size": 16, "scheduler": scheduler, "mixed_passes": 1, "chunked_prompts": 0},
        "concurrency": 0,
        **{"max_batch_size": 2048, "chunk_size": 2560, "seed": 0},
        **{"request_rate": rate, "requests": max(round(rate * seconds), 1), "warmup": skipped / seconds},
        **more,
    }


def yu(model: str, scheduler: str, batch: int, rate: float, requests: int = 2000, **more: Any) -> Case:
    """Requests at a rate to ORCA or FasterTransformer; `batch`: of each of the batches that are in flight."""
    flying = STAGES[model] if scheduler != "static" else 1
    return {
        "concurrency": 0,
        **{"model": model, "hardware": "a100-40gb", "tensor_parallel": 1 if model == "gpt-3-13b" else 8},
        **{"pipeline_parallel": STAGES[model], "engine": "orca-2022", "step_time": 0.3e-3},
        **{"trace": "orca", "page_size": 1, "scheduler": scheduler, "mixed_passes": int(scheduler != "static")},
        "chunked_prompts": int(scheduler == "static"),  # the first pass of FasterTransformer: see the README
        **{"max_batch_size": batch * flying, "chunk_size": 1e6, "seed": 0},
        **{"request_rate": rate, "requests": requests, "warmup": 0.1},
        **more,
    }


def simulate(cases: Iterable[Case]) -> pd.DataFrame:
    """All cases, each with its measures, in their order."""
    table = pd.DataFrame(list(cases))
    table = table.assign(visible_share=table.hardware.map(SEEN))
    catalog: list[Any] = [traces(), *CATALOG]
    found = sg.sweep(
        solver="simulation",
        cases=table,
        values={"precision": "fp16", "max_len": 2048, **MEMORY},
        outputs=MEASURES,
        catalog=catalog,
    )
    return table.assign(**{name: found[name].values for name in MEASURES})


def grid(function: Any, **choices: Sequence[Any]) -> list[Case]:
    """The cases of every combination of choices."""
    return [function(**dict(zip(choices, chosen, strict=True))) for chosen in product(*choices.values())]
