"""The grid in plain numpy: each quantity on its own axes, broadcast where they meet.

`written` has one expression for each equation. `fresh`, `warm` and `tiles` are tuned, in as few passes as we found:
divisions by the bandwidth happen on few axes, results go where they belong by `out=`, and what does not exist
becomes NaN by adding an array on few axes that is 0 or NaN, where `np.where` would take one more pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from benchmarks.grid import DISPATCH_TIME, Arrays, Problem, aligned

Run = Callable[[], Arrays]


def written(problem: Problem) -> Run:
    """The equations as one would write them down."""
    return lambda: {name: array.reshape(problem.shape(name)) for name, array in expressions(**problem.facts).items()}


def fresh(problem: Problem) -> Run:
    """Results and intermediates in memory that the system hands out each time."""

    def run() -> Arrays:
        arrays = problem.allocate()
        fill(problem.facts, problem.opened(arrays))
        return arrays

    return run


def warm(problem: Problem, arrays: Arrays) -> Run:
    """Results and intermediates in memory that was used before."""
    work = _work(problem.opened(arrays))

    def run() -> Arrays:
        fill(problem.facts, problem.opened(arrays), work)
        return arrays

    return run


def tiles(problem: Problem, arrays: Arrays, threads: int) -> Run:
    """The same, one model on one accelerator at a time (512 KiB for each array): intermediates stay in cache."""
    parts = [(part(problem.facts, *place), part(problem.opened(arrays), *place)) for place in places(problem)]
    parts.insert(0, parts.pop())  # kv_fragmentation has no model and no accelerator: any part may write it
    work = [_work(parts[0][1]) for _ in range(threads)]

    def run() -> Arrays:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda thread: _fill_all(parts[thread::threads], work[thread]), range(threads)))
        return arrays

    return run


def _fill_all(parts: Sequence[tuple[Arrays, Arrays]], work: list[np.ndarray]) -> None:
    for facts, out in parts:
        fill(facts, out, work)


def places(problem: Problem) -> Iterator[tuple[int, int]]:
    """Of every model on every accelerator."""
    return product(range(problem.sizes["model"]), range(problem.sizes["hardware"]))


def part(arrays: Arrays, model: int, hardware: int) -> dict[str, np.ndarray]:
    """Views of arrays that broadcast, for one model on one accelerator."""
    return {name: array[_one(array.shape[0], model), _one(array.shape[1], hardware)] for name, array in arrays.items()}


def _one(size: int, index: int) -> slice:
    return slice(index, index + 1) if size > 1 else slice(None)


def _work(out: Arrays) -> list[np.ndarray]:
    return [aligned(out["throughput"].shape) for _ in range(2)]


def expressions(**facts: np.ndarray) -> dict[str, np.ndarray]:
    """One expression for each equation."""
    found = served(**facts)
    n, weights, per_request, tokens = (found[name] for name in ("n", "weights", "per_request", "tokens"))
    static = np.maximum(1, np.floor(0.6 * n))
    static_itl = (weights + static * per_request) / facts["hbm_bandwidth"]
    speedup = found["throughput"] / (static / static_itl)
    return {
        "throughput": found["throughput"],
        "ttft": found["ttft"],
        "itl": np.where(n > 0, found["itl"], np.nan),
        "max_active_requests": n.astype(np.int64),
        "kv_fragmentation": (tokens - facts["seq_len"]) / tokens,
        "speedup_vs_static": np.where(n > 0, speedup, np.nan),
    }


def served(
    *,
    parameters: np.ndarray,
    active_parameters: np.ndarray,
    layers: np.ndarray,
    heads: np.ndarray,
    kv_heads: np.ndarray,
    head_dim: np.ndarray,
    hbm_capacity: np.ndarray,
    hbm_bandwidth: np.ndarray,
    bytes_per_element: np.ndarray,
    peak_flops: np.ndarray,
    seq_len: np.ndarray,
    page_size: np.ndarray,
    efficiency: np.ndarray,
    max_batch_size: np.ndarray,
) -> dict[str, np.ndarray]:
    """How many requests run at once, how fast, and what that follows from; where none runs, ITL means nothing."""
    weights = parameters * bytes_per_element
    tokens = page_size * np.ceil(seq_len / page_size)
    per_request = 2 * layers * kv_heads * head_dim * bytes_per_element * tokens
    room = np.floor(np.maximum(hbm_capacity - weights, 0) / per_request)
    n = np.minimum(max_batch_size, room)
    itl = (weights + n * per_request) / hbm_bandwidth
    prefill = (2 * active_parameters * seq_len + 4 * layers * heads * head_dim * seq_len**2) * max_batch_size
    return {
        "n": n,
        "weights": weights,
        "per_request": per_request,
        "tokens": tokens,
        "itl": itl,
        "throughput": n / itl,
        "ttft": prefill / (peak_flops * efficiency) + DISPATCH_TIME,
    }


def fill(facts: Arrays, out: Arrays, work: list[np.ndarray] | None = None) -> None:
    """Compute all outputs into `out`; `work` is memory for two intermediates over the axes of throughput."""
    few = on_few_axes(facts)
    np.divide(few["tokens"] - facts["seq_len"], few["tokens"], out=out["kv_fragmentation"])
    np.multiply(few["ttft_per_request"], facts["max_batch_size"], out=out["ttft"])
    np.add(out["ttft"], DISPATCH_TIME, out=out["ttft"])

    n, static = work or _work(out)
    itl, throughput, speedup = out["itl"], out["throughput"], out["speedup_vs_static"]
    np.minimum(facts["max_batch_size"], few["room"], out=n)
    out["max_active_requests"][...] = n
    np.multiply(n, few["itl_per_request"], out=itl)
    np.add(itl, few["itl_of_weights"], out=itl)
    np.divide(n, itl, out=throughput)

    np.multiply(n, 0.6, out=static)
    np.floor(static, out=static)
    np.maximum(static, 1, out=static)
    np.multiply(static, few["itl_per_request"], out=speedup)
    np.add(speedup, few["itl_of_weights"], out=speedup)
    np.multiply(speedup, throughput, out=speedup)
    np.divide(speedup, static, out=speedup)

    np.add(itl, few["missing"], out=itl)
    np.add(speedup, few["missing"], out=speedup)


def on_few_axes(facts: Arrays) -> dict[str, np.ndarray]:
    """All that does not depend on the batch limit."""
    seq_len, page_size, bandwidth = facts["seq_len"], facts["page_size"], facts["hbm_bandwidth"]
    weights = facts["parameters"] * facts["bytes_per_element"]
    tokens = page_size * np.ceil(seq_len / page_size)
    per_token = 2 * facts["layers"] * facts["kv_heads"] * facts["head_dim"] * facts["bytes_per_element"]
    per_request = per_token * tokens
    room = np.floor(np.maximum(facts["hbm_capacity"] - weights, 0) / per_request)
    attention = 4 * facts["layers"] * facts["heads"] * facts["head_dim"] * seq_len * seq_len
    prefill = 2 * facts["active_parameters"] * seq_len + attention
    return {
        "tokens": tokens,
        "room": room,
        "missing": np.where(room > 0, 0.0, np.nan),
        "itl_of_weights": weights / bandwidth,
        "itl_per_request": per_request / bandwidth,
        "ttft_per_request": prefill / (facts["peak_flops"] * facts["efficiency"]),
    }
