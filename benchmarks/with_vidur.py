"""Vidur on the same requests, memory and step times: `VIDUR_PYTHON with_vidur.py FOLDER`.

This file is run by the Python in which Vidur 0.0.26 is installed, and imports nothing of servegrid. Vidur learns how
long operations take from profiles that it downloads; in their place it is given a table of times (`times.json`), by
the one function in which it looks for predictions that others have made. All else is Vidur's own.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any


def main(folder: Path) -> dict[str, Any]:
    """What it simulated, and how long that took, without reading requests, times and options."""
    options = json.loads((folder / "options.json").read_text())
    _give_times(folder / "times.json")
    sys.argv = ["vidur", *options["arguments"], f"--metrics_config_output_dir={folder}"]
    config: Any = import_module("vidur.config").SimulationConfig.create_from_cli_args()
    logging.disable()
    simulator: Any = import_module("vidur.simulator").Simulator(config)
    requests = [event._request for _, event in simulator._event_queue]
    batch: Any = import_module("vidur.entities").Batch
    started = perf_counter()
    simulator.run()
    seconds = perf_counter() - started
    counted = sorted(requests, key=lambda request: request.arrived_at)[int(options["warmup"] * len(requests)) :]
    several = [request for request in counted if request._num_decode_tokens > 1]
    return {
        "seconds": seconds,
        "passes": batch._id + 1,
        "simulated_time": simulator._time,
        "ttft": _mean([request.prefill_completed_at - request.arrived_at for request in counted]),
        "tpot": _mean(
            [
                (request.completed_at - request.prefill_completed_at) / (request._num_decode_tokens - 1)
                for request in several
            ]
        ),
    }


def _give_times(file: Path) -> None:
    predictor: Any = import_module(
        "vidur.execution_time_predictor.sklearn_execution_time_predictor"
    ).SklearnExecutionTimePredictor
    found = {
        operation: dict(zip(map(tuple, table["keys"]), table["milliseconds"], strict=True))
        for operation, table in json.loads(file.read_text()).items()
    }
    predictor._load_predictions_from_hf = lambda _: found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    (given / "result.json").write_text(json.dumps(main(given)))
