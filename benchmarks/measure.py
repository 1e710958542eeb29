"""How long, and how much memory: the best of several rounds, and the peak of a process of its own."""

from __future__ import annotations

import os
import pickle
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

ROOT = Path(__file__).parents[1]


def best_seconds(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The shortest time of each, after one call to warm up.

    In every round each has its turn, in another order: a neighbour on the machine disturbs all of them alike. A turn
    is two calls: what needs fresh memory finds in the second what it gave back after the first. After two seconds
    a virtual machine hands free memory back to its host, and getting it again made numpy four times slower.
    """
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    order = random.Random(20230917)
    for _ in range(rounds):
        for name in order.sample(list(runs), len(runs)):
            best[name] = min(best[name], *(_seconds(runs[name]) for _ in range(2)))
    return best


def _seconds(run: Callable[[], object]) -> float:
    started = perf_counter()
    result = run()
    seconds = perf_counter() - started
    del result  # after the clock has stopped: giving memory back takes time, too
    return seconds


def peak_resident(process: int | Literal["self"] = "self") -> int:
    """The largest resident size that a process has had [byte]; of others than this one on Linux only."""
    status = Path(f"/proc/{process}/status")
    if status.exists():  # ru_maxrss also counts the parent's memory, up to the moment of exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def use_cache(folder: str) -> None:
    """Keep compiled kernels in this folder from now on."""
    os.environ["SERVEGRID_CACHE_DIR"] = folder


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a new process, which imports it by its name.

    A process of `multiprocessing` would not do: it begins with this one's main module, and asv's cannot be.
    """
    command = [sys.executable, "-m", "benchmarks.measure"]
    done = subprocess.run(
        command, input=pickle.dumps((function, arguments)), cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return pickle.loads(done.stdout)


if __name__ == "__main__":
    chosen, given = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(chosen(*given)))
