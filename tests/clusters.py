"""Crews under test: a store that tells who writes what, the command in a session of its own, a batch system."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from contents import files, timeless

from servegrid import cli, planning, runner
from servegrid.blocks import Region
from servegrid.store import Store

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"
PATIENCE = 100  # [s] for anything that takes a few on a machine without other work
BLOCK_BYTES = 160  # of results
BLOCKS = 18  # into which that cuts the sweep: one for each model, device and precision
SWEEP = """\
name: crews
axes:
  model: [llama-3.1-8b, llama-3.1-70b]
  hardware: [h100-sxm, mi300x, l4]
  precision: [fp16, int8, int4]
  page_size: [16, 300]
  max_batch_size: [1, 7, 64]
values: {seq_len: 8192}
outputs: [throughput, itl, kv_fragmentation]
"""
OUTPUTS = ("throughput", "itl", "kv_fragmentation", "feasible")

# Stores.


@dataclass(frozen=True)
class Watch:
    """What is noted about those who write a store, and what happens to them.

    `notes`: the folder of the notes. `pause`: before a block is written [s]. `stuck`: the block whose first writer
    does not get on. `deadly`: the block all of whose writers are killed.
    """

    notes: Path
    pause: float = 0.0
    stuck: int = -1
    deadly: int = -1

    def meets(self, block: int) -> None:
        """Somebody is about to write a block."""
        (self.notes / f"{block}.{os.getpid()}.{uuid4().hex}").touch()
        if block == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        while block == self.stuck and len(writers(self.notes, block)) == 1:
            time.sleep(0.02)
        time.sleep(self.pause)


@dataclass(frozen=True)
class Watched(Store):
    """A store that is watched."""

    watch: Watch

    def write(self, region: Region, arrays: Mapping[str, np.ndarray]) -> None:
        self.watch.meets(list(self.blocks).index(region))
        super().write(region, arrays)


def writers(notes: Path, block: int | str = "*") -> list[tuple[int, int]]:
    """Which blocks were begun (or this one), each time with the process that began it."""
    found = [path.name.split(".") for path in notes.glob(f"{block}.*")]
    return [(int(number), int(process)) for number, process, _ in found]


def cut(patch: pytest.MonkeyPatch) -> None:
    """From now on runs of this process cut the sweep into small blocks, and nobody watches."""
    patch.setattr(runner, "Store", Store)
    patch.setattr(planning, "LARGEST_REGION", BLOCK_BYTES)
    patch.setattr(planning, "SMALLEST_REGION", BLOCK_BYTES)


def watch(patch: pytest.MonkeyPatch, how: Watch) -> Path:
    """The same, but their stores are watched; where the notes are."""
    cut(patch)
    how.notes.mkdir(exist_ok=True)
    patch.setattr(runner, "Store", partial(Watched, watch=how))
    return how.notes


def contents(store: Path) -> dict[str, bytes]:
    """What is in a store, but for the moment of its making."""
    return timeless(files(store))


def chunk_files(store: Path) -> dict[str, tuple[int, int]]:
    """The file of every chunk of results, and when it was made: a file that is written anew is another one."""
    found = {}
    for output in OUTPUTS:
        for path in store.glob(f"{output}/c/**/[0-9]*"):
            if path.is_file():
                status = path.stat()
                found[path.relative_to(store).as_posix()] = (status.st_ino, status.st_mtime_ns)
    return found


# The command, and others, in a session of their own as a terminal starts them.

WATCHED = "SERVEGRID_TEST_WATCHED"  # the variable of the environment by which the command watches its store
PROGRAM = [sys.executable, "-c", "import clusters; clusters.servegrid()"]


def servegrid() -> None:
    """The command `servegrid`, its store cut small and watched as the environment says."""
    how = json.loads(os.environ[WATCHED])
    watch(pytest.MonkeyPatch(), Watch(**{**how, "notes": Path(how["notes"])}))
    cli.main(prog_name="servegrid")


def watching(how: Watch) -> str:
    """What that variable is to hold."""
    return json.dumps({**asdict(how), "notes": str(how.notes)})


def python_path() -> dict[str, str]:
    """The environment of a process that knows this module."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])}


def hears_ctrl_c() -> None:
    """Be as a program that a terminal starts: whoever started the tests may ignore Ctrl-C, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextmanager
def started(
    *arguments: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own, of which nothing is left afterwards."""
    run = subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment or python_path(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


@contextmanager
def watched_run(folder: Path, how: Watch, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`servegrid run` of the sweep, into o.zarr of the folder."""
    (folder / "crews.yaml").write_text(SWEEP)
    arguments = [*PROGRAM, "run", "crews.yaml", "--out", "o.zarr", *options]
    with started(*arguments, folder=folder, environment={**python_path(), WATCHED: watching(how)}) as run:
        yield run


Answer = TypeVar("Answer")


def until(condition: Callable[[], Answer]) -> Answer:
    """What the condition gives as soon as that is true; the test fails where it never is."""
    end = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return answer


# A dask cluster that somebody else has started.


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A dask scheduler without workers: its address and process."""
    note = folder / "scheduler.json"
    program = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", LOOPBACK]
    with started(*program, "--port", "0", "--scheduler-file", note, folder=folder) as run:
        until(note.exists)
        yield until(lambda: _address(note)), run


def _address(note: Path) -> str:
    with suppress(ValueError):  # not written to its end
        return str(json.loads(note.read_text())["address"])
    return ""


@contextmanager
def worker(address: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A dask worker of two threads."""
    program = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard", "--no-nanny"]
    where = ["--host", LOOPBACK, "--local-directory", str(folder)]
    with started(*program, "--nthreads", "2", *where, address, folder=folder) as run:
        yield run


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])


# Processes, and what they listen to.


def session(leader: int) -> list[str]:
    """The processes of a session that live, with their commands."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.info['cmdline'] or ())}")
    return found


def family(root: int) -> set[int]:
    """A process and all that descend from it, those that live."""
    found = set()
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(root)
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                if one.status() != psutil.STATUS_ZOMBIE:
                    found.add(one.pid)
    return found


def listeners(*roots: int) -> set[tuple[int, str, int]]:
    """Process, address and port of all on which these processes, or their descendants, accept connections."""
    found = set()
    for pid in set().union(*map(family, roots)):
        with suppress(psutil.NoSuchProcess):
            for connection in psutil.Process(pid).net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((pid, connection.laddr.ip, connection.laddr.port))
    return found


# A batch system that runs its jobs on this machine, at once.

_SBATCH = """
import os, re, subprocess, sys
from pathlib import Path
jobs = Path(os.environ["FAKE_SLURM"])
number = 1000
while True:  # several may submit at the same time
    try:
        (jobs / str(number)).mkdir()
        break
    except FileExistsError:
        number += 1
script = jobs / str(number) / "script"
script.write_text(Path(sys.argv[-1]).read_text())
array = re.search(r"--array=(\\d+)-(\\d+)", script.read_text())
for task in range(int(array[1]), int(array[2]) + 1) if array else [0]:
    environment = {**os.environ, "SLURM_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task)}
    with open(jobs / str(number) / f"{task}.log", "w") as log:
        run = subprocess.Popen(["bash", script], env=environment, stdout=log, stderr=log, start_new_session=True)
    (jobs / str(number) / f"{task}.pid").write_text(str(run.pid))
print(f"Submitted batch job {number}")
"""
_SCANCEL = """
import os, signal, sys
from pathlib import Path
for job in sys.argv[1:]:
    folder = Path(os.environ["FAKE_SLURM"]) / job
    (folder / "cancelled").touch()
    for note in folder.glob("*.pid"):
        try:
            os.killpg(int(note.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass
"""
_SERVEGRID = "import clusters; clusters.servegrid()"


@dataclass(frozen=True)
class Slurm:
    """The jobs of the batch system: a folder for each, with its script, the log and process of each task."""

    jobs: Path

    @property
    def numbers(self) -> list[str]:
        """Of all jobs that were submitted."""
        return sorted(path.name for path in self.jobs.iterdir())

    @property
    def cancelled(self) -> list[str]:
        """Of those that were cancelled."""
        return [number for number in self.numbers if (self.jobs / number / "cancelled").exists()]

    def script(self, number: str) -> str:
        """What was submitted."""
        return (self.jobs / number / "script").read_text()

    def log(self, number: str, task: int = 0) -> str:
        """What a task has said."""
        return (self.jobs / number / f"{task}.log").read_text()

    @property
    def leaders(self) -> list[int]:
        """The sessions of all tasks."""
        return [int(note.read_text()) for note in self.jobs.glob("*/*.pid")]

    @property
    def living(self) -> list[str]:
        """The processes of all tasks."""
        return [process for leader in self.leaders for process in session(leader)]

    def end(self) -> None:
        """End whatever a test that failed has left."""
        for leader in self.leaders:
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)


def install_slurm(folder: Path, patch: pytest.MonkeyPatch) -> Slurm:
    """Put `sbatch`, `scancel` and the `servegrid` of these tests on the path of programs."""
    programs, jobs = folder / "bin", folder / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL), ("servegrid", _SERVEGRID)):
        (programs / name).write_text(f"#!{sys.executable}\n{text}")
        (programs / name).chmod(0o755)
    patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("PYTHONPATH", python_path()["PYTHONPATH"])
    patch.setenv("FAKE_SLURM", str(jobs))
    return Slurm(jobs)
