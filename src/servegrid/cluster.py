"""The crew of a dask cluster: processes of this machine, a scheduler that runs already, jobs of a batch system.

Workers write their own blocks; the client hands out few tasks at a time and gets small receipts.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import chain, islice
from multiprocessing import resource_tracker
from pathlib import Path
from time import monotonic
from typing import Any, Literal, cast
from uuid import uuid4

from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed.utils import get_ip_interface
from pydantic import BaseModel, ConfigDict, Field

from servegrid.errors import CrewError, InputError, MachineError
from servegrid.job import Result_co, Task, Work
from servegrid.show import counted
from servegrid.units import UnitError, to_number
from servegrid.yamlfile import read_mapping, validate

LOOPBACK = "127.0.0.1"
ANSWER = 10  # [s] in which a scheduler has to answer
WAITING = 2  # tasks for each thread of the cluster that are handed out: one at work, one that waits
_LOOK = 2.0  # [s] between two looks at the size of the cluster
_MOST_ATTEMPTS = 3  # dask's own distributed.scheduler.allowed-failures

System = Literal["slurm", "pbs", "sge", "lsf", "oar", "htcondor", "local"]
_CLASSES: dict[System, str] = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "htcondor": "HTCondorCluster",
    "local": "LocalCluster",
}


class ClusterFile(BaseModel):
    """A cluster file. All keys that are not named here are arguments of dask-jobqueue's class for the system."""

    model_config = ConfigDict(extra="allow")

    system: System
    jobs: int = Field(ge=1)
    cores: int = Field(ge=1)
    """of one job"""
    memory: str
    """of one job"""
    processes: int | None = Field(default=None, ge=1)
    """in one job; one for each core without it"""
    interface: str | None = None
    """the network that the nodes share; without it the scheduler listens on the loopback address"""

    @property
    def workers(self) -> int:
        """Processes of one job."""
        return self.processes or self.cores


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
        self.client.wait_for_workers(1)

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
        except KilledWorker:
            raise CrewError(
                f"{_MOST_ATTEMPTS + 1} workers were lost one after another with the same block in hand; "
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
    with _quiet():
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
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Threads and processes that are begun here do not hear Ctrl-C: this process ends them.

    A terminal sends it to all; each worker would print a traceback of its own.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it later would unblock the signal
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


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    with _quiet():
        try:
            client = Client(address, timeout=ANSWER, set_as_default=False)
        except ValueError as error:
            raise InputError(f"scheduler: got {address!r}, expected an address such as tcp://host:8786") from error
        except (OSError, TimeoutError):
            raise MachineError(f"no dask scheduler answers at {address} within {ANSWER} s") from None
        with client:
            with suppress(TimeoutError):
                client.wait_for_workers(1, timeout=ANSWER)
            yield client


def read_cluster_file(path: Path, system: str | None = None) -> ClusterFile:
    """The cluster that a YAML file describes; `system` is what it is where the file does not say."""
    content = dict(read_mapping(path))
    if system is not None and content.setdefault("system", system) != system:
        raise InputError(f"{path}: system: got {content['system']}, expected {system}; or give it as --cluster")
    file = validate(ClusterFile, content, f"{path}: ")
    if file.cores % file.workers:
        raise InputError(
            f"{path}: processes: got {file.workers}, expected a number that divides the {file.cores} cores"
        )
    try:
        to_number(file.memory, "byte")
    except UnitError as error:
        raise InputError(f"{path}: memory: {error}, expected the memory of a job, such as 64 GiB") from None
    return file


@contextmanager
def batch_jobs(file: ClusterFile, where: Path) -> Iterator[Cluster]:
    """Jobs of a batch system that dask-jobqueue submits, and ends when the work is done."""
    with ExitStack() as stack:
        title = f"{counted(file.jobs, file.system + ' job')} of {counted(file.workers, 'process')}"
        memory = int(to_number(file.memory, "byte")) // file.workers
        yield Cluster(_submitted(file, where), stack, title, file.jobs * file.cores, file.cores // file.workers, memory)


@contextmanager
def _submitted(file: ClusterFile, where: Path) -> Iterator[Client]:
    try:
        package: Any = import_module("dask_jobqueue.local" if file.system == "local" else "dask_jobqueue")
    except ImportError:
        raise InputError("dask-jobqueue is missing; install it with: pip install 'servegrid[jobqueue]'") from None
    with _quiet():
        try:
            cluster = getattr(package, _CLASSES[file.system])(**_options(file))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{where}: dask-jobqueue refuses it: {error}") from None
        with cluster, Client(cluster, set_as_default=False) as client:
            cluster.scale(jobs=file.jobs)
            yield client


def _options(file: ClusterFile) -> dict[str, Any]:
    """The arguments of dask-jobqueue's class."""
    options = dict(file.model_extra or {})
    extra = ["--no-dashboard", *options.pop("worker_extra_args", [])]
    chosen = options.pop("scheduler_options", {})
    if file.interface is None:
        host = {"host": LOOPBACK}
        extra += ["--host", LOOPBACK]
    else:
        host = {}
        options["interface"] = file.interface
    # No dashboard, and its server (which dask starts all the same) on the same network only, at any free port.
    address = LOOPBACK if file.interface is None else get_ip_interface(file.interface)
    quiet = {"dashboard": False, "dashboard_address": f"{address}:0"}
    return {
        **options,
        "cores": file.cores,
        "processes": file.workers,
        "memory": f"{int(to_number(file.memory, 'byte'))} B",
        "worker_extra_args": extra,
        "scheduler_options": {**quiet, **host, **chosen},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong is said once, by us, and not by dask's log of lost connections."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
