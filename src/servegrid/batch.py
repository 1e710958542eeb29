"""The crew of a batch system: jobs that dask-jobqueue submits, as a YAML file describes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from distributed import Client
from distributed.utils import get_ip_interface
from pydantic import BaseModel, ConfigDict, Field

from servegrid.cluster import LOOPBACK, Cluster, closing, quiet
from servegrid.errors import InputError, MachineError, nearest, shown
from servegrid.planning import LEAST_MEMORY
from servegrid.show import counted, number
from servegrid.units import UnitError, to_number
from servegrid.yamlfile import read_mapping, validate

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
_OURS = {"self", "kwargs", "scheduler", "name", "interface", "cores", "memory", "processes", "protocol", "security"}


class ClusterFile(BaseModel):
    """A cluster file. Keys that are not named here are arguments of dask-jobqueue's class for jobs of the system."""

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
    """the network that the nodes share; without it everything listens on the loopback address"""
    walltime: str | None = None  # 01:00:00 without quotes is a number to YAML
    queue: str | None = None
    account: str | None = None
    worker_extra_args: list[str] = Field(default_factory=list)
    job_extra_directives: list[str] = Field(default_factory=list)
    job_script_prologue: list[str] = Field(default_factory=list)

    @property
    def workers(self) -> int:
        """Processes of one job."""
        return self.processes or self.cores

    @property
    def memory_bytes(self) -> int:
        """The memory of one job [byte]."""
        return int(to_number(self.memory, "byte"))

    @cached_property
    def kind(self) -> Any:
        """dask-jobqueue's class of clusters."""
        try:
            package = import_module("dask_jobqueue.local" if self.system == "local" else "dask_jobqueue")
        except ImportError:
            raise InputError("dask-jobqueue is missing; install it with: pip install 'servegrid[jobqueue]'") from None
        return getattr(package, _CLASSES[self.system])

    @property
    def address(self) -> str:
        """Where the scheduler listens; ValueError where there is no such interface."""
        return LOOPBACK if self.interface is None else str(get_ip_interface(self.interface))

    @property
    def job(self) -> dict[str, Any]:
        """The arguments of dask-jobqueue's class of jobs."""
        options = self.model_dump(exclude={"system", "jobs", "processes", "memory", "interface"}, exclude_defaults=True)
        extra = ["--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0", *self.worker_extra_args]
        if self.interface is None:
            extra += ["--host", LOOPBACK]
        else:
            options["interface"] = self.interface
        memory = f"{self.memory_bytes} B"
        return {**options, "processes": self.workers, "memory": memory, "worker_extra_args": extra}


def read_cluster_file(path: Path, system: str | None = None) -> ClusterFile:
    """The cluster that a YAML file describes, checked; `system` is what it is where the file does not say."""
    content = dict(read_mapping(path))
    if system is not None and content.setdefault("system", system) != system:
        raise InputError(f"{path}: system: got {content['system']}, expected {system}; or give it as --cluster")
    walltime = content.get("walltime", "")
    if not isinstance(walltime, str):
        raise InputError(f"{path}: walltime: got {shown(walltime)}, expected text in quotes, such as '02:00:00'")
    file = validate(ClusterFile, content, f"{path}: ")
    if file.cores % file.workers:
        raise InputError(
            f"{path}: processes: got {file.workers}, expected a number that divides the {file.cores} cores of a job"
        )
    _check_memory(file, path)
    _check_job(file, path)
    return file


def _check_memory(file: ClusterFile, path: Path) -> None:
    least = LEAST_MEMORY * file.workers
    expected = f"expected the memory of a job, {number(least, 'byte')} or more for {counted(file.workers, 'process')}"
    try:
        memory = to_number(file.memory, "byte")
    except UnitError as error:
        raise InputError(f"{path}: memory: {error}, {expected}") from None
    if not isfinite(memory) or memory < least:
        raise InputError(f"{path}: memory: got {shown(file.memory)}, {expected}")


def _check_job(file: ClusterFile, path: Path) -> None:
    """Raise InputError where dask-jobqueue would refuse the job; nothing is started."""
    job = file.kind.job_cls
    known = {name for base in job.__mro__ for name in inspect.signature(base.__init__).parameters} - _OURS
    for key in file.model_extra or ():
        if key not in known:
            raise InputError(
                f"{path}: {key}: unknown key{nearest(key, [*known, *ClusterFile.model_fields])}, "
                f"expected an argument of dask-jobqueue's {job.__name__}"
            )
    try:
        job(scheduler=f"tcp://{file.address}:1", name="check", **file.job).job_script()
    except Exception as error:  # each class has checks of its own
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: dask-jobqueue refuses it: {reason}") from None


@contextmanager
def batch_jobs(file: ClusterFile) -> Iterator[Cluster]:
    """Jobs of a batch system; they end when the work is done."""
    with ExitStack() as stack:
        title = f"{counted(file.jobs, file.system + ' job')} of {counted(file.workers, 'process')}"
        memory = file.memory_bytes // file.workers
        yield Cluster(_submitted(file), stack, title, file.jobs * file.cores, file.cores // file.workers, memory)


@contextmanager
def _submitted(file: ClusterFile) -> Iterator[Client]:
    # No dashboard; its server, which dask starts all the same, on the same network only and at any free port.
    options = {"host": file.address, "dashboard": False, "dashboard_address": f"{file.address}:0"}
    with quiet():
        cluster = file.kind(scheduler_options=options, **file.job)
        with closing(cluster):

            async def submit() -> None:
                cluster.scale(jobs=file.jobs)
                # What scale() begins on its own, awaited: so a batch system that refuses is heard.
                await cluster._correct_state()

            try:
                cluster.sync(submit)
            except (OSError, RuntimeError) as error:
                cluster.workers.clear()  # jobs that never were: dask would wait for each of them
                cluster._created.clear()
                reason = " ".join(str(error).split())
                raise MachineError(f"{file.system}: the jobs could not be submitted: {reason}") from None
            with Client(cluster, set_as_default=False) as client:
                yield client
