"""Runs of the command in processes that start in milliseconds, and to which something happens at a chosen moment.

A server that has imported everything forks a process for each run. There, the command's own functions tell through
a pipe how it gets on; what a process has told before it is killed is known. A run goes through phases ("start",
"layout", "compile", "chunks", "report", "finish", "done"), and in each through steps ("enter", what it does to files,
"leave").
"""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from itertools import pairwise
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import portalocker
import pytest
from contents import files, timeless

from servegrid import cli, planning, runner, verification
from servegrid.job import Job, Memory, Receipt, Task
from servegrid.kernel import CACHE_VARIABLE
from servegrid.threads import Threads

# 36 blocks of two page sizes or of one, 90 chunks of which some hold nothing but NaN; a kernel that is soon compiled.
SWEEP: dict[str, Any] = {
    "name": "killed",
    "axes": {
        "hardware": ["h100-sxm", "l4"],
        "max_batch_size": [1, 7, 64],
        "seq_len": [1000, 8192, 131072],
        "page_size": [1, 16, 300],
    },
    "values": {"model": "llama-3.1-70b", "precision": "int8"},
    "outputs": ["itl", "ttft", "feasible"],
}
BLOCK_BYTES = 30  # two page sizes of each output, not three
THREADS = 2
PATIENCE = 120  # [s] without a word from a run, after which it is believed to hang
WRITES = ("write", "fsync", "replace", "replaced")  # a file's life: half written, written, on the disk, named

_context = multiprocessing.get_context("forkserver")


class Moment(NamedTuple):
    """The n-th time that a step is reached in a phase."""

    phase: str
    step: str = "enter"
    number: int = 1


@dataclass(frozen=True)
class Order:
    """What a process is to do: the command's arguments, and what happens to it when; `lasts`: from then on."""

    arguments: tuple[str, ...]
    cache: Path
    said: Path
    at: Moment | None
    act: Callable[[Watch], None]
    lasts: bool
    block_bytes: int


# What may happen to a run.


def killed(watch: Watch) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waits(watch: Watch) -> None:
    """Until it is let go."""
    watch.tell("waits")
    watch.go.recv_bytes()


def signalled(number: int, watch: Watch) -> None:
    os.kill(os.getpid(), number)


def fails(number: int, watch: Watch) -> None:
    raise OSError(number, os.strerror(number))


def loses_permission(store: Path, watch: Watch) -> None:
    """Nothing in the store may be written any more, by nobody: root becomes somebody else."""
    for folder in [store, *(path for path in store.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(65534)


@dataclass
class Watch:
    """Within the process of a run: tells how it gets on, and lets happen what is to happen."""

    order: Order
    told: Connection
    go: Connection
    phase: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    patch: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, what: str, *details: Any) -> None:
        with self.lock:
            self.told.send((what, time.monotonic(), *details))

    def enter(self, phase: str) -> None:
        if phase != self.phase:
            self.reach("leave")
            with self.lock:
                self.phase, self.counts = phase, Counter()
        self.tell("phase", phase)
        self.reach("enter")

    def reach(self, step: str) -> None:
        if self.is_time(step):
            self.order.act(self)

    def is_time(self, step: str) -> bool:
        with self.lock:
            self.counts[step] += 1
            at = self.order.at
            if at is None or (self.phase, step) != (at.phase, at.step):
                return False
            return self.counts[step] == at.number or (self.order.lasts and self.counts[step] > at.number)

    def install(self) -> None:
        """From now on."""
        self._watch_phases()
        self._watch_files()
        self._watch_work()

    def _watch_phases(self) -> None:
        entries: list[tuple[type | ModuleType, str, str]] = [
            (runner.Agreement, "lay_out", "layout"),
            (verification, "lay_out", "layout"),
            (Job, "prepare", "compile"),
            (Threads, "do", "chunks"),
            (runner, "Report", "report"),
            (runner, "finish", "finish"),
            (verification, "finish", "finish"),
        ]
        for owner, name, phase in entries:
            self.patch.setattr(owner, name, self._entering(phase, getattr(owner, name)))

    def _entering(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def entering(*arguments: Any, **named: Any) -> Any:
            self.enter(phase)
            return function(*arguments, **named)

        return entering

    def _watch_files(self) -> None:
        """What makes a file whole or not there: it is written, forced to the disk, renamed; taken away; or locked."""
        opened, replaced = Path.open, os.replace

        def replace(*arguments: Any, **named: Any) -> None:
            self.reach("replace")
            replaced(*arguments, **named)
            self.reach("replaced")

        def half_written(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if mode == "wb" and self.is_time("write"):
                return _Cut(path, lambda: self.order.act(self))
            return opened(path, mode, *arguments, **named)

        self.patch.setattr(Path, "open", half_written)
        self.patch.setattr(os, "replace", replace)
        self.patch.setattr(os, "fsync", self._reaching("fsync", os.fsync))
        self.patch.setattr(os, "unlink", self._reaching("unlink", os.unlink))
        self.patch.setattr(portalocker, "lock", self._reaching("lock", portalocker.lock))

    def _reaching(self, step: str, function: Callable[..., None]) -> Callable[..., None]:
        def reaching(*arguments: Any, **named: Any) -> None:
            self.reach(step)
            function(*arguments, **named)

        return reaching

    def _watch_work(self) -> None:
        do, store_sweep, check_store = Job.do, runner.store_sweep, verification.check_store

        def telling(job: Job, task: Task, worker: str, memory: Memory) -> Receipt:
            region = job.store.blocks[task.block]
            self.tell("computes", *(job.store.key(region, name) for name in task.outputs))
            return do(job, task, worker, memory)

        def reporting(*arguments: Any, **named: Any) -> runner.Report:
            report = store_sweep(*arguments, **named)
            self.enter("done")
            self.tell("counts", Counts(report.chunks, report.stored, report.tally.chunks))
            return report

        def checking(*arguments: Any, **named: Any) -> verification.Verdict:
            verdict = check_store(*arguments, **named)
            self.enter("done")
            return verdict

        self.patch.setattr(Job, "do", telling)
        self.patch.setattr(runner, "store_sweep", reporting)
        self.patch.setattr(verification, "check_store", checking)


class _Cut(io.FileIO):
    """A file of which only a half gets written before something happens."""

    def __init__(self, path: Path, act: Callable[[], None]) -> None:
        super().__init__(path, "wb")
        self.act = act

    def write(self, content: Any) -> int:
        whole = memoryview(content).cast("B")
        super().write(whole[: len(whole) // 2])
        self.act()
        return super().write(whole[len(whole) // 2 :]) + len(whole) // 2


def _command(order: Order, told: Connection, go: Connection) -> None:
    """The command `servegrid`, in a process of its own."""
    # A lock of blosc's would have a name otherwise, which a killed process leaves behind.
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    os.environ[CACHE_VARIABLE] = str(order.cache)
    said = os.open(order.said, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    planning.LARGEST_REGION = order.block_bytes
    watch = Watch(order, told, go)
    watch.install()
    watch.enter("start")
    cli.main(order.arguments, prog_name="servegrid")


# From outside.


class Counts(NamedTuple):
    """What a run says that it has done [chunk]."""

    chunks: int
    stored: int
    computed: int


@dataclass(frozen=True)
class Ended:
    """A run that is over: its exit code (minus the signal that killed it), and what is known of it."""

    code: int
    said: str
    phases: tuple[tuple[str, float], ...]
    """Which it entered, and when [s]."""
    computed: tuple[str, ...]
    """The chunks that it began to compute."""
    counts: Counts | None
    """What a run that reached its end says."""

    @property
    def phase(self) -> str:
        """The last one."""
        return self.phases[-1][0]

    def spans(self) -> dict[str, float]:
        """How long each phase took, the last one aside [s]."""
        spans: dict[str, float] = {}
        for (phase, start), (_, end) in pairwise(self.phases):
            spans[phase] = spans.get(phase, 0.0) + end - start
        return spans


class Running:
    """A run under way."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.told, told = _context.Pipe(duplex=False)
        go, self.go = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_command, args=(order, told, go), daemon=True)
        self.process.start()
        told.close()
        go.close()
        self.events: list[tuple[Any, ...]] = []

    def until(self, what: str, *details: Any) -> bool:
        """Whether the run comes to tell this."""
        while self._listen():
            if self.events[-1][0] == what and self.events[-1][2:] == details:
                return True
        return False

    def _listen(self) -> bool:
        """Whether the run tells one more thing."""
        if not self.told.poll(PATIENCE):
            self.process.kill()
            raise AssertionError(f"hangs: {self.order}, {self.events[-5:]}")
        try:
            self.events.append(self.told.recv())
        except EOFError:
            return False
        return True

    def let_go(self) -> None:
        self.go.send_bytes(b"go")

    def kill(self) -> None:
        self.process.kill()

    def kill_after(self, delay: float) -> None:
        """In so many seconds, or as soon as it waits or ends."""
        end = time.monotonic() + delay
        while self.told.poll(max(0.0, end - time.monotonic())) and self._listen():
            if self.events[-1][0] == "waits":
                break
        self.kill()

    def ended(self) -> Ended:
        """When it is over."""
        while self._listen():
            pass
        self.process.join(PATIENCE)
        code = self.process.exitcode
        assert code is not None
        for end in (self.told, self.go, self.process):
            end.close()
        said = self.order.said.read_text()
        self.order.said.unlink()
        return Ended(
            code,
            said,
            tuple((event[2], event[1]) for event in self.events if event[0] == "phase"),
            tuple(key for event in self.events if event[0] == "computes" for key in event[2:]),
            next((event[2] for event in self.events if event[0] == "counts"), None),
        )


def first_over(*runs: Running) -> Running:
    """The first that ends."""
    ended = wait([run.process.sentinel for run in runs], PATIENCE)
    assert ended, "none of them ends"
    return next(run for run in runs if run.process.sentinel in ended)


@dataclass(frozen=True)
class Machine:
    """Starts runs; `folder` is where they say what they say, `cache` where kernels are kept."""

    folder: Path
    cache: Path

    @classmethod
    def of(cls, folder: Path, cache: Path) -> Machine:
        """With the server that forks the runs."""
        _context.set_forkserver_preload(["killing_warm"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            forkserver.ensure_running()
        folder.mkdir(exist_ok=True)
        return cls(folder, cache)

    def start(
        self,
        *arguments: object,
        at: Moment | None = None,
        act: Callable[[Watch], None] = killed,
        lasts: bool = False,
        cache: Path | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Running:
        """The command with these arguments; `act` happens at the moment."""
        file, said = tempfile.mkstemp(dir=self.folder)
        os.close(file)
        order = Order(tuple(map(str, arguments)), cache or self.cache, Path(said), at, act, lasts, block_bytes)
        return Running(order)

    def run(self, *arguments: object, **incident: Any) -> Ended:
        """The same, when it is over."""
        return self.start(*arguments, **incident).ended()


# What is in a store.

Stamp = tuple[int, int]


def stamps(store: Path) -> dict[str, Stamp]:
    """Every file's inode and time of change: whoever writes a file anew makes another one."""
    found = {}
    for path in store.rglob("*"):
        with suppress(FileNotFoundError):  # somebody is at work
            if path.is_file():
                status = path.stat()
                found[path.relative_to(store).as_posix()] = (status.st_ino, status.st_mtime_ns)
    return found


def results(keys: Iterable[str], outputs: Iterable[str] = SWEEP["outputs"]) -> set[str]:
    """Those of the keys that are chunks of results."""
    chunk = re.compile(f"({'|'.join(outputs)})/c(/[0-9]+)*")
    return {key for key in keys if chunk.fullmatch(key)}


@dataclass
class Story:
    """A store from its first run to its last, all of which may be killed. After each it is looked at.

    `whole`: the store that nobody disturbed. `command`: what makes this one the same.
    """

    machine: Machine
    out: Path
    command: tuple[str, ...]
    whole: Mapping[str, bytes]
    outputs: tuple[str, ...] = tuple(SWEEP["outputs"])
    kills: Counter[Any] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)

    @property
    def chunks(self) -> set[str]:
        """All that there are to be."""
        return results(self.whole, self.outputs)

    def good(self) -> dict[str, Stamp]:
        """The chunks that are there and right; all chunks are, unless the store is one to grow or to mend."""
        there = stamps(self.out)
        return {
            key: there[key]
            for key in results(there, self.outputs)
            if (self.out / key).read_bytes() == self.whole.get(key)
        }

    def run(self, at: Moment | None = None, **incident: Any) -> Ended:
        """A run, killed at the moment."""
        return self._looked_at(self.good(), self.machine.start(*self.command, at=at, **incident))

    def killed_within(self, phase: str, delay: float, **incident: Any) -> None:
        """A run, killed from outside so long [s] after it has entered the phase, which it does not leave."""
        before = self.good()
        run = self.machine.start(*self.command, at=Moment(phase, "leave"), act=waits, **incident)
        assert run.until("phase", phase)
        run.kill_after(delay)
        ended = self._looked_at(before, run)
        assert (ended.code, ended.phase) == (-signal.SIGKILL, phase)

    def _looked_at(self, before: dict[str, Stamp], run: Running) -> Ended:
        ended = run.ended()
        now = stamps(self.out)
        assert {key: now.get(key) for key in before} == before, "a finished chunk was touched"
        assert not set(ended.computed) & before.keys(), "a finished chunk was computed again"
        self.begun.update(ended.computed)
        if ended.code == -signal.SIGKILL:
            self.kills[ended.phase] += 1
        return ended

    def finished(self) -> Ended:
        """The last run, after which nothing is left to wish for."""
        before, chunks = self.good(), self.chunks
        ended = self.run()
        assert ended.code == 0, ended.said
        assert set(ended.computed) == chunks - before.keys()
        if ended.counts is not None:
            assert ended.counts == Counts(len(chunks), len(before), len(chunks) - len(before))
        self.check()
        return ended

    def check(self) -> None:
        """The store is the one that nobody disturbed."""
        found = timeless(files(self.out))
        assert found.keys() == self.whole.keys()
        assert [key for key in found if found[key] != self.whole[key]] == []
