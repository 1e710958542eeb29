"""Runs against the number of chunks, by threads and by processes: the fixed price of a chunk."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import use_cache
from benchmarks.run_contenders import EVALUATE, FILES, RUN, Hands
from benchmarks.running import cut, figures, measure, of_size
from servegrid.crews import crew


class Running:
    """160,000 points, 5.3 MB of results: what a chunk costs, whatever is in it."""

    points = 1.0
    params = ((10, 1000), ("threads", "workers"))
    param_names = ("chunks", "kind")
    unit = "of the compressor's and the disk's time"
    timeout = 300

    def setup(self, chunks: int, kind: str) -> None:
        self.made = ExitStack()
        self.folder = Path(self.made.enter_context(TemporaryDirectory()))
        use_cache(str(self.folder))
        team = self.made.enter_context(crew(threads=2) if kind == "threads" else crew(workers=2))
        self.case = self.made.enter_context(cut(of_size(self.points), Hands(team), chunks))
        measure(self.case, 1, [RUN], self.folder)  # compiles

    def teardown(self, chunks: int, kind: str) -> None:
        self.made.close()

    def track_overhead(self, chunks: int, kind: str) -> float:
        rows = measure(self.case, 2, [RUN, EVALUATE, FILES], self.folder)
        return figures(rows)[0].overhead
