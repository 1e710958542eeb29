"""What Vidur is given, and what it answers: our requests, memory and step times, in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measure import ROOT
from benchmarks.simulations import Ran
from servegrid.evaluate import Evaluator
from servegrid.fingerprint import fingerprint
from servegrid.simulation.workload import draw_requests

SCHEDULERS = {"chunked": "sarathi", "paged": "vllm"}  # ours, and Vidur's that does the same
LAYERS = 32  # Llama 3 8B, whose layers Vidur multiplies the times by
CONTEXT = 256  # tokens: the grid of contexts in Vidur's tables
CHUNK = 32  # tokens: the grid of prompts' parts
TOKENS = 8  # the grid of the tokens of a pass
MOST_BATCH = 64  # requests that decode in one pass; the trace never has as many
FELLOWS = 11  # requests that decode beside a prompt, on average
DATE = "2023-11-16"
# Operations that have no time of their own here: all that depends on a pass's tokens alone is in `mlp_up_proj`.
SILENT = (
    *("attn_pre_proj", "attn_post_proj", "attn_rope", "input_layernorm", "post_attention_layernorm"),
    *("mlp_down_proj", "mlp_act", "add"),
)


@dataclass(frozen=True)
class Asked:
    """The records that the kernel hands to the simulation, and the functions that say how long a pass takes."""

    workload: Any
    scheduler: Any
    limits: Any
    physics: np.ndarray
    library: Any

    @classmethod
    def of(cls, evaluator: Evaluator) -> Asked:
        """Run the nests as plain Python, with a simulation that only notes what it is asked."""
        program = evaluator.program
        _ = evaluator.kernel  # which loads the library
        library = sys.modules[fingerprint(program.library)]
        noted: list[Asked] = []

        def note(workload: Any, scheduler: Any, limits: Any, physics: np.ndarray) -> np.ndarray:
            noted.append(cls(workload, scheduler, limits, physics, library))
            return np.full(1000, np.nan)

        source = program.source.replace("@njit(", "@_njit(")
        namespace: dict[str, Any] = {"_njit": lambda *_, **__: lambda function: function}
        exec(compile(source, "<generated>", "exec"), namespace)
        namespace["simulate"] = note
        arrays = {name: np.empty(1, program.array_dtype(name)) for name in program.stored}
        with np.errstate(all="ignore"):
            namespace["fill"](
                np.ones(len(program.nests), bool),
                *(evaluator.inputs[name].item() for name in program.input_scalars),
                *(evaluator.inputs[name] for name in program.input_arrays),
                *(arrays[name] for name in program.stored),
            )
        return noted[0]


def requests_of(asked: Asked) -> list[tuple[float, int, int]]:
    """Arrival [s], prompt and output [token] of each request, cut as ours are."""
    arrival, prompt, output = draw_requests(asked.workload)
    return list(zip(arrival.tolist(), prompt.astype(int).tolist(), output.astype(int).tolist(), strict=True))


def times_of(asked: Asked) -> dict[str, Any]:
    """Vidur's tables, in milliseconds of one layer, which add up to our step times.

    A pass takes T(tokens) + D(requests, context) + the sum of P(context, part). T: requests that decode, without
    context; D: what their context adds; P: a part of a prompt, beside as many requests as there are on average. So
    two prompts in one pass take a little longer than with us.
    """
    physics, scheduler = asked.physics, asked.scheduler
    # As plain Python: compiled, only compiled code can call them.
    decode_time, prompt_time, attention_time = (
        getattr(asked.library, name).py_func for name in ("decode_time", "prompt_time", "attention_time")
    )
    longest = int(asked.workload.max_len)
    most = int(scheduler.chunk_size) + MOST_BATCH + TOKENS
    fellows = FELLOWS if scheduler.mixed_passes else 0
    contexts = range(0, longest + CONTEXT + 1, CONTEXT)
    parts = range(CHUNK, int(min(scheduler.chunk_size, longest)) + CHUNK + 1, CHUNK)

    def decoding(requests: int, context: int) -> float:
        return float(decode_time(float(requests), float(context), physics)) if requests > 0 else 0.0

    def prompt(part: int, context: int) -> float:
        attention = attention_time(float(part), float(max(context, part)), physics)
        return float(prompt_time(float(part), float(fellows), attention, physics))

    tables: dict[str, dict[tuple[int, ...], float]] = {
        "mlp_up_proj": {
            (count,): decoding(count if count <= MOST_BATCH else fellows, 0)
            for count in range(TOKENS, most + 1, TOKENS)
        },
        "attn_decode": {
            (count, context): decoding(count, context) - decoding(ceil(count / TOKENS) * TOKENS, 0)
            for count in range(1, MOST_BATCH + 1)
            for context in contexts
        },
        "attn_prefill": {(context, part): prompt(part, context) for context in contexts for part in parts},
        "attn_kv_cache_save": {(count,): 0.0 for count in range(1, most + 1)},
    }
    tables |= {name: dict.fromkeys(tables["mlp_up_proj"], 0.0) for name in SILENT}
    return {
        name: {"keys": list(table), "milliseconds": [1000 * seconds / LAYERS for seconds in table.values()]}
        for name, table in tables.items()
    }


def arguments_of(asked: Asked, scheduler: str, trace: Path, native: bool) -> Iterator[str]:
    """Vidur's options: one replica without parallelism, our memory and limits, and nothing written but the results."""
    rules = asked.scheduler
    theirs = SCHEDULERS[scheduler]
    budget = {"sarathi": "chunk_size", "vllm": "max_tokens_in_batch"}[theirs]
    longest = int(asked.workload.max_len)
    options = {
        "replica_config_model_name": "meta-llama/Llama-3-8B",
        "replica_config_device": "h100",
        "replica_config_tensor_parallel_size": 1,
        "replica_config_num_pipeline_stages": 1,
        "cache_config_block_size": int(rules.page_size),
        "cache_config_num_blocks": int(rules.pool_pages),
        "cache_config_watermark_blocks_fraction": rules.watermark,
        "request_generator_config_type": "trace_replay",
        "trace_request_generator_config_trace_file": trace,
        "trace_request_generator_config_date": DATE,
        "trace_request_generator_config_prefill_scale_factor": 1,
        "trace_request_generator_config_time_scale_factor": 1,
        "trace_request_generator_config_max_tokens": longest,
        "replica_scheduler_config_type": theirs,
        f"{theirs}_scheduler_config_batch_size_cap": MOST_BATCH,
        f"{theirs}_scheduler_config_{budget}": int(rules.chunk_size),
        "execution_time_predictor_config_type": "random_forrest",
        "random_forrest_execution_time_predictor_config_kv_cache_prediction_granularity": CONTEXT,
        "random_forrest_execution_time_predictor_config_prediction_max_prefill_chunk_size": int(rules.chunk_size),
        "random_forrest_execution_time_predictor_config_prediction_max_batch_size": MOST_BATCH,
        "random_forrest_execution_time_predictor_config_prediction_max_tokens_per_request": longest,
        "random_forrest_execution_time_predictor_config_attention_decode_batching_overhead_fraction": 0,
    }
    yield from (f"--{name}={value}" for name, value in options.items())
    yield from (f"--no-metrics_config_{name}" for name in ("write_metrics", "enable_chrome_trace", "store_plots"))
    if native:
        yield "--random_forrest_execution_time_predictor_config_use_native_execution_time_predictor"


def ask(python: str, evaluator: Evaluator, scheduler: str, native: bool = True) -> Ran:
    """Simulate the same by Vidur; `native`: its predictor in C++."""
    asked = Asked.of(evaluator)
    with TemporaryDirectory() as made:
        folder = Path(made)
        with (folder / "trace.csv").open("w") as file:
            rows = csv.writer(file)
            rows.writerow(("Date", "Time", "PromptTokenCount", "CompletionTokenCount"))
            rows.writerows((DATE, *request) for request in requests_of(asked))
        (folder / "times.json").write_text(json.dumps(times_of(asked)))
        arguments = list(arguments_of(asked, scheduler, folder / "trace.csv", native))
        options = {"arguments": arguments, "warmup": asked.limits.warmup}
        (folder / "options.json").write_text(json.dumps(options))
        command = [python, str(ROOT / "benchmarks" / "with_vidur.py"), made]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"Vidur: {done.stderr[-3000:]}")
        found = json.loads((folder / "result.json").read_text())
    return Ran(found, found.pop("seconds"))
