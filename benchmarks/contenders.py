"""Who computes the grid, and whether all of them compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.grid import OUTPUTS, Arrays, Problem, at
from benchmarks.measure import peak_resident, use_cache

# Two orders of summation, two ways to associate a product: the last bits may differ, no more.
TOLERANCE = 1e-9
SAMPLE = 1000


@dataclass(frozen=True)
class Contender:
    """One way to compute the grid: a function of `module` that prepares a run."""

    name: str
    module: str
    function: str
    takes: tuple[str, ...] = ()  # "arrays" to write to, "threads", "places" to compute in place of the whole grid
    threads: int = 1
    writes: bool = True

    def prepare(self, problem: Problem, arrays: Arrays) -> Callable[[], Any]:
        """Compile, and return what computes the grid once."""
        chosen: dict[str, Any] = {"arrays": arrays, "places": problem.sample(SAMPLE), "threads": self.threads}
        arguments = {name: chosen[name] for name in self.takes}
        run: Callable[[], Any] = getattr(import_module(f"benchmarks.{self.module}"), self.function)(
            problem, **arguments
        )
        return run

    @property
    def available(self) -> bool:
        """Whether its library is installed: JAX is large, and optional."""
        return not self.module.endswith("_jax") or find_spec("jax") is not None


REFERENCE = "servegrid, warm, 2 threads"
IN_CACHE = "servegrid, in cache, 2 threads"

_ALL = (
    Contender("mlsysim, one call per point", "with_mlsysim", "sampled", ("places",), writes=False),
    Contender("numpy, as written", "with_numpy", "written"),
    Contender("numpy, tuned", "with_numpy", "fresh"),
    Contender("numpy, tuned, warm", "with_numpy", "warm", ("arrays",)),
    Contender("numpy, tuned, warm, tiles, 1 thread", "with_numpy", "tiles", ("arrays", "threads"), 1),
    Contender("numpy, tuned, warm, tiles, 2 threads", "with_numpy", "tiles", ("arrays", "threads"), 2),
    Contender("numba.vectorize, as written, warm", "with_vectorize", "written", ("arrays",)),
    Contender("numba.vectorize, tuned, warm", "with_vectorize", "warm", ("arrays",)),
    Contender("numba.vectorize, tuned, warm, tiles, 2 threads", "with_vectorize", "tiles", ("arrays", "threads"), 2),
    Contender("JAX, jit", "with_jax", "fresh"),
    Contender("servegrid, cold, 1 thread", "with_servegrid", "cold", ("threads",), 1),
    Contender("servegrid, cold, 2 threads", "with_servegrid", "cold", ("threads",), 2),
    Contender("servegrid, warm, 1 thread", "with_servegrid", "warm", ("arrays", "threads"), 1),
    Contender(REFERENCE, "with_servegrid", "warm", ("arrays", "threads"), 2),
    Contender("servegrid, in cache, 1 thread", "with_servegrid", "stream", ("threads",), 1, writes=False),
    Contender(IN_CACHE, "with_servegrid", "stream", ("threads",), 2, writes=False),
    Contender("ndarray.fill, warm, 1 thread", "with_fill", "warm", ("arrays", "threads"), 1),
    Contender("ndarray.fill, warm, 2 threads", "with_fill", "warm", ("arrays", "threads"), 2),
)
CONTENDERS = {contender.name: contender for contender in _ALL if contender.available}


def alone(contender: Contender, problem: Problem) -> tuple[float, int]:
    """Seconds to prepare (compile, without a cache) and peak memory of two runs, the imports included."""
    import_module(f"benchmarks.{contender.module}")
    if contender.module.endswith("_jax"):
        import_module("jax")
    _ = problem.facts  # reading the catalogue is no compiling
    with TemporaryDirectory() as folder:
        use_cache(folder)
        arrays = problem.allocate() if "arrays" in contender.takes else {}
        started = perf_counter()
        run = contender.prepare(problem, arrays)
        seconds = perf_counter() - started
        for _ in range(2):
            run()
        return seconds, peak_resident()


# --- do all of them compute the same? -----------------------------------------------------------------------------


def disagreement(problem: Problem, contender: Contender) -> dict[str, float]:
    """The largest relative difference from servegrid's own numbers at sampled points, for each output.

    Infinite where one has a number and the other has none. Of results that nobody keeps, the sums are compared;
    of `ndarray.fill`, nothing.
    """
    expected = import_module("benchmarks.with_servegrid").cold(problem, 1)()
    if contender.module == "with_fill":
        return {}
    if contender.function == "stream":
        return _difference_of_sums(problem, contender, expected)
    places = problem.sample(SAMPLE)
    expected = at(expected, places)
    if "places" in contender.takes:
        found = _reference(problem, places)
        fits = expected["max_active_requests"] > 0
        expected["kv_fragmentation"] = np.where(fits, expected["kv_fragmentation"], np.nan)
    else:
        found = at(contender.prepare(problem, _wrong(problem))(), places)
    return {name: difference(found[name], expected[name]) for name in OUTPUTS}


def _wrong(problem: Problem) -> Arrays:
    """Arrays in which nothing is right before anything ran."""
    arrays = problem.allocate()
    for array in arrays.values():
        array.fill(-7)
    return arrays


def _reference(problem: Problem, places: Mapping[str, np.ndarray]) -> Arrays:
    mlsysim = import_module("benchmarks.with_mlsysim")
    return {**mlsysim.sampled(problem, places)(), "ttft": mlsysim.first_token(problem, places)}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative difference; infinite where only one of the two is NaN."""
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    scale = np.where(expected == 0, 1, np.abs(expected))
    return float(np.nanmax(np.abs(found - expected) / scale, initial=0.0))


def _difference_of_sums(problem: Problem, contender: Contender, expected: Arrays) -> dict[str, float]:
    found = import_module("benchmarks.with_servegrid").sums(problem, contender.threads)
    whole = {name: np.nansum(values, dtype=np.float64) for name, values in expected.items()}
    return {name: abs(found[name] / whole[name] - 1) for name in OUTPUTS}


def check(problem: Problem, contenders: Mapping[str, Contender]) -> None:
    """Raise ArithmeticError unless all of them agree."""
    for name, contender in contenders.items():
        for output, found in disagreement(problem, contender).items():
            if not found <= TOLERANCE:
                raise ArithmeticError(f"{name}: {output} differs by {found:.3g}, expected {TOLERANCE:g} at most")
