"""Questions: points per second of a best configuration, streamed and stored, and of frontiers."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from benchmarks.ask_servegrid import stored, streamed
from benchmarks.frontier import SWEEP, Case, ask_servegrid
from benchmarks.grid import FULL, Problem
from benchmarks.measure import use_cache

PROBLEM: Problem = FULL


class Best:
    """The best configuration for each of 256 groups, of 67 million points."""

    params = ("streamed", "stored")
    param_names = ("grid",)
    timeout = 300

    def setup(self, grid: str) -> None:
        self.folder = TemporaryDirectory()
        use_cache(self.folder.name)
        self.ask = {"streamed": streamed, "stored": stored}[grid](PROBLEM, 2)
        self.ask()  # compiles

    def teardown(self, grid: str) -> None:
        self.folder.cleanup()

    def time_best(self, grid: str) -> None:
        self.ask()


class Frontier:
    """The frontier of points of several kinds; 10 million of them."""

    points = 1e7
    params = (("uniform", "ball", SWEEP), (2, 3))
    param_names = ("kind", "objectives")
    timeout = 300

    def setup(self, kind: str, objectives: int) -> None:
        self.folder = TemporaryDirectory()
        use_cache(self.folder.name)
        self.question = Case(kind, objectives, self.points).question
        ask_servegrid(self.question)  # compiles

    def teardown(self, kind: str, objectives: int) -> None:
        self.folder.cleanup()

    def time_frontier(self, kind: str, objectives: int) -> None:
        ask_servegrid(self.question)
