"""Runs into a Zarr store: how long, and how much memory."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import servegrid as sg
from benchmarks.measure import use_cache
from benchmarks.memory import of_size, run


class Store:
    """16.8 million points, 151 MB of results, computed, compressed and written."""

    problem = of_size(2**24)
    # One call for each setup: a second call would find everything done.
    number = 1
    repeat = (3, 10, 60)
    warmup_time = 0
    timeout = 300

    def setup(self) -> None:
        self.folder = TemporaryDirectory()
        use_cache(self.folder.name)
        self.store = Path(self.folder.name) / "sweep.zarr"
        self.time_run()  # compiles
        rmtree(self.store)

    def teardown(self) -> None:
        self.folder.cleanup()

    def time_run(self) -> None:
        sg.run(**self.problem.words, out=self.store).close()


class Memory:
    """Peak memory of a run on 67 million points, 604 MB of results, under a budget."""

    params = ("384MiB", "512MiB", "1GiB")
    param_names = ("memory",)
    unit = "byte"
    timeout = 300

    def track_peak_resident(self, memory: str) -> int:
        with TemporaryDirectory() as folder:
            return run(of_size(2**26), memory, Path(folder)).peak_bytes
