"""The command line: the first answer, from an empty and from a warm kernel cache, and the help."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from benchmarks.memory import COMMAND

QUICKSTART = Path(__file__).parents[1] / "sweeps" / "quickstart.yaml"


def command(*arguments: str, cache: Path | None = None) -> str:
    """What `servegrid` prints, which has to succeed."""
    environment = os.environ if cache is None else {**os.environ, "SERVEGRID_CACHE_DIR": str(cache)}
    done = subprocess.run([*COMMAND, *arguments], env=environment, check=True, capture_output=True, text=True)
    return done.stdout


class Help:
    """The command itself, without any library that computes."""

    def time_help(self) -> None:
        command("--help")


class Quickstart:
    """`servegrid run sweeps/quickstart.yaml`, in a new process each time."""

    params = ("cold", "warm")
    param_names = ("cache",)
    # One call for each setup: a second call would find the kernel in the cache.
    number = 1
    repeat = (3, 5, 60)
    warmup_time = 0
    timeout = 300

    def setup(self, cache: str) -> None:
        self.made = TemporaryDirectory()
        self.store = Path(self.made.name) / "quickstart.zarr"
        if cache == "warm":
            self.time_run(cache)
            rmtree(self.store)  # a run on a finished store computes nothing

    def teardown(self, cache: str) -> None:
        self.made.cleanup()

    def time_run(self, cache: str) -> None:
        command("run", str(QUICKSTART), "--out", str(self.store), cache=Path(self.made.name) / "cache")
