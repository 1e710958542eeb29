"""One deployment with aiconfigurator 0.12.0, which adds up measured times of kernels: one call for each prediction."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

MODEL = "nvidia/Llama-3.1-70B-Instruct-FP8"
SYSTEM = "h200_sxm"
BACKEND = "trtllm"
TENSOR_PARALLEL = 4
INPUT = 1000  # tokens of a prompt, and of the budget of a step
OUTPUT = 500
REQUESTS = 64


def predictor() -> Callable[[], tuple[float, float]]:
    """A function that predicts TTFT [s] and TPOT [s] anew, its tables read and its engine built."""
    config: Any = import_module("aiconfigurator.sdk.config")
    tables: Any = import_module("aiconfigurator.sdk.perf_database")
    backends: Any = import_module("aiconfigurator.sdk.backends.factory")
    session: Any = import_module("aiconfigurator.sdk.inference_session").InferenceSession
    sharding = config.ModelConfig(tp_size=TENSOR_PARALLEL)
    model = import_module("aiconfigurator.sdk.models").get_model(MODEL, sharding, BACKEND)
    database = tables.get_database(SYSTEM, BACKEND, tables.get_latest_database_version(SYSTEM, BACKEND))
    load = config.RuntimeConfig(isl=INPUT, osl=OUTPUT, batch_size=REQUESTS)

    def predict() -> tuple[float, float]:
        # A backend keeps its results: only a new one works them out.
        backend = backends.get_backend(BACKEND)
        found = session(model, database, backend).run_agg(load, ctx_tokens=INPUT).get_result_dict()
        return float(found["ttft"]) / 1000, float(found["tpot"]) / 1000

    predict()  # builds the engine, which stays
    return predict
