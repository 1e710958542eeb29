"""The crew of a dask cluster: processes of this machine, or a scheduler that runs already.

Workers write their own blocks; the client hands out few tasks at a time and gets small receipts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from multiprocessing import resource_tracker
from threading import current_thread, main_thread
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed.comm.core import connect

from servegrid.errors import CrewError, InputError, MachineError
from servegrid.job import Result_co, Task, Work
from servegrid.show import counted

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
PATIENCE = 60  # [s] between two remarks that there is no worker yet
ANSWER = 10  # [s] in which a scheduler has to answer
WAITING = 2  # tasks for each thread of the cluster that are handed out: one at work, one that waits
_NOISY = ("distributed", "tornado", "asyncio")  # loggers
_LOOK = 2.0  # [s] between two looks at the size of the cluster
_MOST_ATTEMPTS = 3  # to give the work to all workers, while one is lost


@dataclass
class Cluster:
    """The workers of a dask scheduler, which `start` starts when they are first needed, and ends with the `stack`.

    `size`: threads of all workers. `threads`: of one worker. `memory`: what one worker may take [byte].
    """

    start: AbstractContextManager[Client]
    stack: ExitStack
    title: str
    size: int
    threads: int = 1
    elsewhere: bool = field(default=True, init=False)
    memory: int | None = None
    retries: int = field(default=0, init=False)

    @cached_property
    def client(self) -> Client:
        """The connection to the scheduler."""
        return self.stack.enter_context(self.start)

    def limited(self, threads: int) -> Cluster:
        """The same: whoever started the workers has chosen their threads."""
        return self

    def get_ready(self, work: Work[Any]) -> None:
        """Compile the kernel, which workers that share the cache folder find there; wait for the first worker."""
        work.prepare()
        while not self.client.nthreads():
            try:
                self.client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                log.warning("waiting for the first of %s", self.title)

    def do(self, work: Work[Result_co], tasks: Iterable[Task]) -> Iterator[Result_co]:
        """Do all tasks; those of a worker that is lost are done by another."""
        name = f"servegrid-{uuid4().hex[:8]}"
        ahead = iter(tasks)
        first = next(ahead, None)
        if first is None:
            return
        self.get_ready(work)
        try:
            with self._prepared(name, work), self._counting_losses(name):
                yield from self._results(name, chain([first], ahead))
        except KilledWorker as error:
            raise CrewError(
                f"{error.allowed_failures + 1} workers were lost one after another with the same block in hand; "
                "look into the logs of the workers, their memory first"
            ) from None
        except (CancelledError, OSError, TimeoutError) as error:
            if self.client.status == "running" and isinstance(error, OSError):
                raise
            raise CrewError("the dask scheduler is gone") from None

    def _results(self, name: str, tasks: Iterator[Task]) -> Iterator[Any]:
        # with_results: they are fetched in batches; one by one, the client would take 8 ms for each (2 ms like this).
        running: Any = as_completed(loop=self.client.loop, with_results=True)

        def hand_out(count: int) -> None:
            ahead = islice(tasks, max(0, count))
            running.update(
                [self.client.submit(_do, name, task, key=f"{name}-{task.block}-{len(task.outputs)}") for task in ahead]
            )

        looked, size = monotonic(), self._size()
        hand_out(WAITING * size)
        for _, result in running:
            if isinstance(result, BaseException):  # so as_completed tells of what was cancelled
                raise result
            yield result
            if monotonic() > looked + _LOOK:
                looked, size = monotonic(), self._size()
            hand_out(WAITING * size - running.count())

    def _size(self) -> int:
        threads: dict[str, int] = self.client.nthreads()
        return max(1, sum(threads.values()))

    @contextmanager
    def _prepared(self, name: str, work: Work[Any]) -> Iterator[None]:
        """Every worker, also one that joins later, has the work."""
        for attempts_left in reversed(range(_MOST_ATTEMPTS)):
            try:
                self.client.register_plugin(_Load(work), name=name)
                break
            except OSError:  # a worker was lost at this moment
                if not attempts_left:
                    raise
        try:
            yield
        finally:
            with suppress(Exception):  # where the scheduler is gone, so is the plugin
                self.client.unregister_worker_plugin(name)

    @contextmanager
    def _counting_losses(self, name: str) -> Iterator[None]:
        def note(event: tuple[float, Any]) -> None:
            _, message = event
            if isinstance(message, dict) and message.get("action") == "remove-worker":
                self.retries += sum(str(key).startswith(name) for key in message.get("processing-tasks", ()))

        self.client.subscribe_topic("all", note)
        try:
            yield
        finally:
            with suppress(Exception):
                self.client.unsubscribe_topic("all")


def _track_resources() -> None:
    """Start Python's tracker of semaphores: later, it would unblock the signal for the workers.

    It is not to warn of those that a killed worker could not give back; it learns that when it starts.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


class _Load(WorkerPlugin):
    """The work, in a worker."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.kept: Any = None

    def setup(self, worker: object) -> None:
        self.kept = threading.local()  # each thread fills its arrays again and again
        self.work.prepare()


def _do(name: str, task: Task) -> Any:
    worker = get_worker()
    plugin = cast(_Load, worker.plugins[name])
    return plugin.work.do(task, worker.address, plugin.kept.__dict__)


@contextmanager
def processes(count: int) -> Iterator[Cluster]:
    """Processes of this machine, one thread each; a process that dies is started again."""
    if count < 1:
        raise InputError(f"workers: got {count}, expected 1 or more")
    with ExitStack() as stack:
        yield Cluster(_local(count), stack, counted(count, "process"), count)


@contextmanager
def _local(count: int) -> Iterator[Client]:
    with quiet():
        with _deaf_children():
            # No limit of dask's on memory: the plan keeps the budget, and a paused worker would only be slower.
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                host=LOOPBACK,
                dashboard_address=f"{LOOPBACK}:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        with closing(cluster), Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def closing(cluster: Any) -> Iterator[None]:
    """Close the cluster at the end; further Ctrl-C of somebody impatient do not disturb it."""
    try:
        yield
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if current_thread() is main_thread() else None
        try:
            with suppress(AssertionError):  # jobs that could not be submitted
                cluster.close()
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Threads and processes that are begun here do not hear Ctrl-C: this process ends them.

    A terminal sends it to all; each worker would print a traceback of its own.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _track_resources()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def scheduler(address: str) -> Iterator[Cluster]:
    """A dask scheduler that runs already, with the workers that it has."""
    with ExitStack() as stack:
        client = stack.enter_context(_connected(address))
        workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
        if not workers:
            raise MachineError(
                f"the dask scheduler at {address} has no workers; start one with 'dask worker {address}'"
            )
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        threads = [worker["nthreads"] for worker in workers]
        title = f"{counted(len(workers), 'worker')} of {address}"
        yield Cluster(nullcontext(client), stack, title, sum(threads), max(threads), min(limits, default=None))


def _check_address(address: str) -> None:
    """Raise InputError unless it is the address of a scheduler."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        good = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:  # of the port
        good = False
    if not good:
        raise InputError(f"scheduler: got {address!r}, expected an address such as tcp://host:8786")
    if address.startswith("tls:") and not dask.config.get("distributed.comm.tls.ca-file", None):
        raise InputError(
            f"scheduler: got {address!r}, but dask's configuration names no certificates (distributed.comm.tls)"
        )


async def _answer(address: str) -> None:
    """Raise OSError or TimeoutError unless something answers as dask does; dask itself would wait for ever."""
    comm = await asyncio.wait_for(connect(address, timeout=ANSWER), ANSWER)
    await comm.close()


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    _check_address(address)
    with quiet():
        try:
            if not address.startswith("tls:"):
                asyncio.run(_answer(address))
            client = Client(address, timeout=ANSWER, set_as_default=False)
        except (OSError, TimeoutError):
            raise MachineError(f"no dask scheduler answers at {address} within {ANSWER} s") from None
        with client:
            with suppress(TimeoutError):
                client.wait_for_workers(1, timeout=ANSWER)
            yield client


@contextmanager
def quiet() -> Iterator[None]:
    """What goes wrong is said once, by us, and not by the logs of dask and its event loop."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _NOISY]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
