"""Crews of dask.distributed, tried for real: processes, a scheduler that runs already, jobs of a batch system."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import clusters
import numpy as np
import pytest
from click.testing import CliRunner, Result
from clusters import BLOCKS, LOOPBACK, PATIENCE, Slurm, Watch, chunk_files, contents, until
from distributed import Client

import servegrid as sg
from servegrid import cluster as cluster_module
from servegrid.api import load
from servegrid.cli import main
from servegrid.cluster import WAITING, Cluster
from servegrid.crews import crew
from servegrid.evaluate import Evaluator, prepare
from servegrid.job import Memory, Task
from servegrid.parameters import gather
from servegrid.place import place_of
from servegrid.runner import Report, store_sweep

README = (Path(__file__).parent.parent / "README.md").read_text()
STUCK = 3  # the block at which a worker is met
KEPT = r"(\d+) of (\d+) chunks are stored, and the same command goes on from there"

pytestmark = [
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
    # dask leaves connections to lost workers, and its probe for a free port, to the garbage collector.
    pytest.mark.filterwarnings("ignore:Exception ignored.*<socket.socket:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "crews.yaml"
    path.write_text(clusters.SWEEP)
    return path


@pytest.fixture(scope="module")
def undisturbed(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is in the store that threads make."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        clusters.cut(patch)
        report = store_sweep(load(sweep_file), folder / "o.zarr")
    assert len(report.plan.blocks) == BLOCKS
    return contents(folder / "o.zarr")


@pytest.fixture(scope="module")
def processes() -> Iterator[Cluster]:
    """Two processes that several tests use."""
    with crew(workers=2) as team:
        assert isinstance(team, Cluster)
        yield team


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dask cluster of somebody else's, that several tests use: one worker of two threads."""
    folder = tmp_path_factory.mktemp("dask")
    with clusters.scheduler(folder) as (address, _), clusters.worker(address, folder):
        yield address


def resumed(sweep: Path, store: Path, patch: pytest.MonkeyPatch) -> Report:
    """What threads do about the rest; whatever was stored is not touched."""
    before = chunk_files(store)
    clusters.cut(patch)
    report = store_sweep(load(sweep), store)
    assert before.items() <= chunk_files(store).items()
    assert report.stored == len(before)
    return report


class Listening:
    """A progress that looks, when the first block is finished, on what the processes of the run listen."""

    def __init__(self, others: Callable[[], list[int]] = list) -> None:
        self.others = others
        self.before = clusters.listeners(os.getpid())
        self.found: set[tuple[int, str, int]] = set()

    def start(self, points: int, done: int) -> None:
        assert done < points

    def __call__(self, points: int) -> None:
        self.found = self.found or clusters.listeners(os.getpid(), *self.others()) - self.before

    @property
    def processes(self) -> set[int]:
        return {process for process, _, _ in self.found}

    @property
    def hosts(self) -> set[str]:
        return {host for _, host, _ in self.found}


# Processes of this machine.


def test_processes_store_what_threads_store_and_listen_to_this_machine_only(
    processes: Cluster, sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = clusters.watch(monkeypatch, Watch(tmp_path / "notes"))
    listening = Listening()
    report = store_sweep(load(sweep_file), tmp_path / "o.zarr", crew=processes, progress=listening)
    assert contents(tmp_path / "o.zarr") == undisturbed
    assert (report.retries, report.plan.crew.title) == (0, "2 processes")
    writers = Counter(process for _, process in clusters.writers(notes))
    assert len(writers) == 2
    assert os.getpid() not in writers
    assert writers.total() == BLOCKS
    assert listening.processes >= {os.getpid(), *writers}
    assert listening.hosts == {LOOPBACK}


def test_a_worker_that_is_killed_costs_only_what_it_had_in_hand(
    sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.zarr"
    notes = clusters.watch(monkeypatch, Watch(tmp_path / "notes", pause=0.05, stuck=STUCK))

    def kill() -> dict[str, tuple[int, int]]:
        [(_, victim)] = until(lambda: clusters.writers(notes, STUCK))
        begun = len(clusters.writers(notes))
        until(lambda: len(clusters.writers(notes)) >= begun + 5)  # whatever the victim finished before is known
        stored = chunk_files(out)
        os.kill(victim, signal.SIGKILL)
        return stored

    with ThreadPoolExecutor(1) as aside, crew(workers=2) as team:
        killing = aside.submit(kill)
        report = store_sweep(load(sweep_file), out, crew=team)
    stored = killing.result()
    assert contents(out) == undisturbed
    assert stored
    assert stored.items() <= chunk_files(out).items()
    begun = Counter(block for block, _ in clusters.writers(notes))
    assert begun == {block: 2 if block == STUCK else 1 for block in range(BLOCKS)}
    # What waits at a worker is lost with it, too.
    assert 1 <= report.retries <= WAITING


def test_a_block_that_kills_every_worker_ends_the_run_with_one_sentence(
    sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four are lost before that, unless dask is told otherwise."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    out, how = tmp_path / "o.zarr", Watch(tmp_path / "notes", deadly=STUCK)
    with clusters.watched_run(tmp_path, how, "--workers", "1") as run:
        stdout, stderr = run.communicate(timeout=PATIENCE)
    lost = "2 workers were lost one after another with the same block in hand"
    assert re.fullmatch(rf"servegrid: o.zarr: {lost}; look into the logs of the workers[^;]*; {KEPT}\n", stderr), stderr
    assert (run.returncode, stdout) == (3, "")
    assert len(clusters.writers(how.notes, STUCK)) == 2
    resumed(sweep_file, out, monkeypatch)
    assert contents(out) == undisturbed


def test_ctrl_c_ends_all_processes_with_one_sentence(
    sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends it to the command and to all of its workers."""
    out = tmp_path / "o.zarr"
    with clusters.watched_run(tmp_path, Watch(tmp_path / "notes", pause=1.0), "--workers", "2") as run:
        until(lambda: len(chunk_files(out)) > 3)
        assert len(clusters.session(run.pid)) > 2
        os.killpg(run.pid, signal.SIGINT)
        stdout, stderr = run.communicate(timeout=PATIENCE)
        until(lambda: not clusters.session(run.pid))
    said = re.fullmatch(rf"servegrid: stopped; {KEPT}\n", stderr)
    assert said, stderr
    assert (run.returncode, stdout) == (130, "")
    # What was finished in the last moment is not told, but kept.
    assert 0 < int(said[1]) <= len(chunk_files(out)) < int(said[2])
    assert resumed(sweep_file, out, monkeypatch).chunks == int(said[2])
    assert contents(out) == undisturbed


def test_workers_end_with_a_command_that_is_killed_and_what_they_stored_is_kept(
    sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.zarr"
    with clusters.watched_run(tmp_path, Watch(tmp_path / "notes", pause=1.0), "--workers", "2") as run:
        until(lambda: len(chunk_files(out)) > 3)
        run.kill()
        until(lambda: not clusters.session(run.pid))
    assert resumed(sweep_file, out, monkeypatch).stored > 3
    assert contents(out) == undisturbed


# Tasks are handed out a few at a time.


class Trivial:
    """Work that is none."""

    def prepare(self) -> None:
        pass

    def do(self, task: Task, worker: str, memory: Memory) -> int:
        return task.block


def test_few_tasks_are_in_flight_however_many_there_are(processes: Cluster) -> None:
    count, handed_out = 500, [0]
    done: list[int] = []
    in_flight: list[int] = []
    remembered: list[int] = []

    def tasks() -> Iterator[Task]:
        for block in range(count):
            handed_out[0] += 1
            in_flight.append(handed_out[0] - len(done))
            remembered.append(len(processes.client.futures))
            yield Task(block, ())

    for block in processes.do(Trivial(), tasks()):
        done.append(block)
    assert sorted(done) == list(range(count))
    assert max(in_flight) == WAITING * processes.size
    # dask forgets a little later; but it does not add up.
    assert max(remembered) < 10 * WAITING * processes.size
    until(lambda: not processes.client.futures)


# Kernels.


class Compilation:
    """Tells whether the worker had to compile the kernel."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def prepare(self) -> None:
        self.function: Any = self.evaluator.kernel.function

    def do(self, task: Task, worker: str, memory: Memory) -> tuple[str, int, int]:
        stats = self.function.stats
        return worker, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())

    def __getstate__(self) -> dict[str, Any]:
        return {"evaluator": self.evaluator}


def test_workers_take_the_kernel_from_the_cache(processes: Cluster) -> None:
    axes = {"seq_len": [1, 2, 3], "efficiency": [0.5]}
    sweep = load(axes=axes, values={"model": "llama-3.1-8b", "hardware": "l4", "precision": "fp16"}, outputs=["ttft"])
    compilation = Compilation(prepare(gather(sweep)))
    found = set(processes.do(compilation, (Task(block, ()) for block in range(40))))
    assert len({worker for worker, _, _ in found}) == 2
    assert {(hits, misses) for _, hits, misses in found} == {(1, 0)}


# A scheduler that runs already.


def test_somebody_elses_cluster_stores_what_threads_store_and_keeps_nothing_of_it(
    address: str, sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = clusters.watch(monkeypatch, Watch(tmp_path / "notes"))
    with crew(scheduler=address) as team:
        report = store_sweep(load(sweep_file), tmp_path / "o.zarr", crew=team)
        assert (team.size, team.threads) == (2, 2)
    assert report.plan.crew.title == f"1 worker of {address}"
    assert contents(tmp_path / "o.zarr") == undisturbed
    assert len({process for _, process in clusters.writers(notes)} - {os.getpid()}) == 1
    with Client(address, set_as_default=False) as client:

        def on_scheduler(dask_scheduler: Any) -> list[Any]:
            ours = [name for name in dask_scheduler.worker_plugins if "servegrid" in name]
            return [len(dask_scheduler.tasks), len(dask_scheduler.clients), ours]

        def on_worker(dask_worker: Any) -> list[Any]:
            return [len(dask_worker.data), [name for name in dask_worker.plugins if "servegrid" in name]]

        # Of the clients, one is the scheduler's own, and one asks this.
        until(lambda: client.run_on_scheduler(on_scheduler) == [0, 2, []])
        assert list(client.run(on_worker).values()) == [[0, []]]


def test_equations_of_ones_own_need_not_be_known_to_the_workers(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_equations.py").write_text(
        "from servegrid.quantity import quantity\n"
        "@quantity(unit='token/s', long_name='output tokens per second of one user', better='higher')\n"
        "def tokens_per_second_per_user(itl: float) -> float:\n"
        "    '''Return 1 / ITL.'''\n"
        "    return 1 / itl\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    equation = importlib.import_module("my_equations").tokens_per_second_per_user
    keywords: dict[str, Any] = {
        "axes": {"model": ["llama-3.1-8b"], "max_batch_size": [1, 2, 3]},
        "values": {"hardware": "h100-sxm", "precision": "fp16", "seq_len": 1000},
        "solver": sg.CONTINUOUS_BATCHING.extended(equation),
        "outputs": ["tokens_per_second_per_user", "itl"],
    }
    with sg.run(**keywords, out=tmp_path / "o.zarr", scheduler=address) as stored:
        np.testing.assert_array_equal(stored.tokens_per_second_per_user, 1 / stored.itl)
        assert stored.drop_attrs().identical(sg.sweep(**keywords).drop_attrs())
    assert sg.verify(tmp_path / "o.zarr", everything=True, scheduler=address, solver=keywords["solver"]).is_good


def test_a_run_whose_scheduler_is_killed_ends_and_threads_go_on_with_it(
    sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, how = tmp_path / "o.zarr", Watch(tmp_path / "notes", pause=0.05, stuck=STUCK)
    with (
        clusters.scheduler(tmp_path) as (address, scheduler),
        clusters.worker(address, tmp_path),
        clusters.watched_run(tmp_path, how, "--scheduler", address) as run,
    ):
        until(lambda: clusters.writers(how.notes, STUCK) and len(chunk_files(out)) > 8)
        scheduler.kill()
        stdout, stderr = run.communicate(timeout=PATIENCE)
    assert re.fullmatch(rf"servegrid: o.zarr: the dask scheduler is gone; {KEPT}\n", stderr), stderr
    assert (run.returncode, stdout) == (3, "")
    resumed(sweep_file, out, monkeypatch)
    assert contents(out) == undisturbed


def run_in(folder: Path, *options: str | Path) -> Result:
    """The command in this process, on a sweep s.yaml in the folder, into o.zarr beside it."""
    if not (folder / "s.yaml").exists():
        (folder / "s.yaml").write_text(clusters.SWEEP)
    arguments = ["run", folder / "s.yaml", "--out", folder / "o.zarr", *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="servegrid")


NO_ADDRESSES = [
    "nonsense",
    "",
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:abc",
    "tcp://127.0.0.1:99999",
    "tcp://127.0.0.1:0",
    "carrier-pigeon://127.0.0.1:8786",
    "http://127.0.0.1:8786",
]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused_at_once(text: str, tmp_path: Path) -> None:
    threads = threading.active_count()
    result = run_in(tmp_path, "--scheduler", text)
    assert result.output == f"servegrid: scheduler: got {text!r}, expected an address such as tcp://host:8786\n"
    assert result.exit_code == 2
    assert not (tmp_path / "o.zarr").exists()
    assert threading.active_count() == threads


def test_an_address_at_which_nobody_listens_is_a_fault_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "ANSWER", 1)
    address = f"tcp://{LOOPBACK}:{clusters.free_port()}"
    result = run_in(tmp_path, "--scheduler", address)
    assert result.output == f"servegrid: no dask scheduler answers at {address} within 1 s\n"
    assert result.exit_code == 3
    assert not (tmp_path / "o.zarr").exists()


def test_a_listener_that_is_no_scheduler_is_a_fault_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "ANSWER", 1)
    with socket.create_server((LOOPBACK, 0)) as silent:
        address = f"tcp://{LOOPBACK}:{silent.getsockname()[1]}"
        patience = threading.Timer(30, silent.close)  # so that waiting for it ends at last
        patience.start()
        result = run_in(tmp_path, "--scheduler", address)
        assert patience.is_alive()
        patience.cancel()
    assert result.output == f"servegrid: no dask scheduler answers at {address} within 1 s\n"
    assert result.exit_code == 3


def test_a_scheduler_without_workers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "ANSWER", 1)
    with clusters.scheduler(tmp_path) as (address, _):
        result = run_in(tmp_path, "--scheduler", address)
    assert result.output == (
        f"servegrid: the dask scheduler at {address} has no workers; start one with 'dask worker {address}'\n"
    )
    assert result.exit_code == 3
    assert not (tmp_path / "o.zarr").exists()


# Jobs of a batch system.


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A batch system that runs its jobs on this machine."""
    system = clusters.install_slurm(tmp_path, monkeypatch)
    yield system
    system.end()


def readme_block(pattern: str) -> str:
    """An example of the README."""
    found = re.search(rf"```(?:yaml|bash)\n({pattern}.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def changed(text: str, **changes: str) -> str:
    """An example with other values for some of its keys; those without a value are taken out."""
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key}: .*\n", f"{key}: {value}\n" if value else "", text)
        assert count == 1, key
    return text


def test_slurm_jobs_store_what_threads_store_and_are_cancelled_at_the_end(
    slurm: Slurm, sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cluster file of the README, made smaller."""
    clusters.cut(monkeypatch)
    file = tmp_path / "jobs.yaml"
    file.write_text(changed(readme_block("# jobs.yaml"), jobs="2", cores="1", memory="1 GiB", interface=""))
    listening = Listening(lambda: slurm.leaders)
    with crew(slurm=file) as team:
        assert team.title == "2 slurm jobs of 1 process"
        assert not slurm.numbers
        report = store_sweep(load(sweep_file), tmp_path / "o.zarr", crew=team, progress=listening)
    assert contents(tmp_path / "o.zarr") == undisturbed
    assert report.tally.points.total() == report.plan.points
    assert len(slurm.numbers) == 2
    assert slurm.cancelled == slurm.numbers
    until(lambda: not slurm.living)
    for number in slurm.numbers:
        directives = set(re.findall(r"(?m)^#SBATCH (.+)$", slurm.script(number)))
        assert directives >= {"-p batch", "-A llm", "-t 02:00:00", "--cpus-per-task=1", "--mem=1G"}
    assert len(listening.processes) >= 2
    assert listening.hosts == {LOOPBACK}


# dask-jobqueue leaves jobs of this system, and what they say, to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_local_jobs_store_what_threads_store(
    sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters.cut(monkeypatch)
    (tmp_path / "local.yaml").write_text("{system: local, jobs: 1, cores: 2, processes: 1, memory: 1 GiB}")
    before, listening = clusters.family(os.getpid()), Listening()
    with crew(cluster=tmp_path / "local.yaml") as team:
        store_sweep(load(sweep_file), tmp_path / "o.zarr", crew=team, progress=listening)
    assert contents(tmp_path / "o.zarr") == undisturbed
    assert len(listening.processes) >= 2
    assert listening.hosts == {LOOPBACK}
    tracker = 1  # of multiprocessing's, which stays
    until(lambda: len(clusters.family(os.getpid()) - before) <= tracker)


SMALL = {"system": "slurm", "jobs": 1, "cores": 2, "memory": "1 GiB"}
BAD_FILES = {
    "an unknown system": ({**SMALL, "system": "slurms"}, "system", "'slurms'"),
    "no memory": ({**SMALL, "memory": ...}, "memory", "missing"),
    "no jobs": ({**SMALL, "jobs": ...}, "jobs", "missing"),
    "no cores": ({**SMALL, "cores": ...}, "cores", "missing"),
    "none of the jobs": ({**SMALL, "jobs": 0}, "jobs", "got 0"),
    "a unit that is no memory": ({**SMALL, "memory": "64 tokens"}, "memory", "cannot be converted to byte"),
    "memory that is no number": ({**SMALL, "memory": "lots"}, "memory", "not a number"),
    "memory without end": ({**SMALL, "memory": "inf"}, "memory", "got 'inf'"),
    "negative memory": ({**SMALL, "memory": "-1 GiB"}, "memory", "got '-1 GiB'"),
    "too little memory for each process": ({**SMALL, "memory": "500 MiB"}, "memory", "768 MiB or more for 2 processes"),
    "processes that do not divide the cores": ({**SMALL, "cores": 6, "processes": 4}, "processes", "the 6 cores"),
    "a key that dask-jobqueue does not know": ({**SMALL, "quue": "batch"}, "quue", "dask-jobqueue"),
    "a network that the machine has not": ({**SMALL, "interface": "ib77"}, "interface", "ib77"),
    "a time without quotes": ({**SMALL, "walltime": 3600}, "walltime", "quotes"),
    "a text instead of a list": ({**SMALL, "worker_extra_args": "--x"}, "worker_extra_args", "a list"),
}


@pytest.mark.parametrize(("content", "key", "reason"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_cluster_file_with_a_fault_is_refused_before_anything_starts(
    content: dict[str, Any], key: str, reason: str, slurm: Slurm, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))
    before = clusters.family(os.getpid())
    result = run_in(tmp_path, "--cluster", file)
    assert result.exit_code == 2, result.output
    sentence = result.output.removeprefix(f"servegrid: {file}: ").removesuffix("\n")
    assert len(sentence) < len(result.output) - len(str(file))
    assert "\n" not in sentence
    assert key in sentence
    assert reason in sentence
    assert not (tmp_path / "o.zarr").exists()
    assert not slurm.numbers
    assert clusters.family(os.getpid()) <= before


def test_the_option_slurm_refuses_a_file_for_another_system(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(json.dumps({**SMALL, "system": "pbs"}))
    result = run_in(tmp_path, "--slurm", tmp_path / "jobs.yaml")
    assert result.output == (
        f"servegrid: {tmp_path}/jobs.yaml: system: got pbs, expected slurm; or give it as --cluster\n"
    )
    assert result.exit_code == 2
    assert not slurm.numbers


def test_without_dask_jobqueue_the_command_says_how_to_install_it(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    (tmp_path / "jobs.yaml").write_text(json.dumps(SMALL))
    result = run_in(tmp_path, "--cluster", tmp_path / "jobs.yaml")
    assert result.output == (
        "servegrid: dask-jobqueue is missing; install it with: pip install 'servegrid[jobqueue]'\n"
    )
    assert result.exit_code == 2
    assert not (tmp_path / "o.zarr").exists()


REFUSAL = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"


def test_a_batch_system_that_refuses_the_job_is_quoted(slurm: Slurm, tmp_path: Path) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(f"#!/bin/sh\necho '{REFUSAL}' >&2\nexit 1\n")
    (tmp_path / "jobs.yaml").write_text(json.dumps(SMALL))
    with clusters.watched_run(tmp_path, Watch(tmp_path / "notes"), "--slurm", "jobs.yaml") as run:
        stdout, stderr = run.communicate(timeout=PATIENCE)
        until(lambda: not clusters.session(run.pid))
    assert re.fullmatch(rf"servegrid: [^\n]*{re.escape(REFUSAL)}[^\n]*\n", stderr), stderr
    assert (run.returncode, stdout) == (3, "")


def test_a_machine_without_the_batch_system_is_told_what_is_missing(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sbatch").unlink()
    (tmp_path / "jobs.yaml").write_text(json.dumps(SMALL))
    result = run_in(tmp_path, "--slurm", tmp_path / "jobs.yaml")
    assert re.fullmatch(r"servegrid: [^\n]*No such file or directory: 'sbatch'[^\n]*\n", result.output)
    assert result.exit_code == 3


def test_a_job_array_finishes_the_store(
    slurm: Slurm, sweep_file: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the script of the README, made smaller."""
    notes = tmp_path / "notes"
    monkeypatch.setenv(clusters.WATCHED, clusters.watching(Watch(notes)))
    script = readme_block("#!/bin/bash\n#SBATCH")
    for old, new in (("64", "3"), ("sweep.yaml", str(sweep_file)), ("/shared/x.zarr", "x.zarr"), ("6GiB", "1GiB")):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "array.sh").write_text(script)
    submitted = subprocess.run(["sbatch", "array.sh"], cwd=tmp_path, capture_output=True, text=True, check=True)
    number = submitted.stdout.split()[-1]
    until(lambda: len(slurm.leaders) == 3 and not slurm.living)
    assert contents(tmp_path / "x.zarr") == undisturbed
    begun = [block for block, _ in clusters.writers(notes)]
    assert sorted(begun) == list(range(BLOCKS))
    assert len({process for _, process in clusters.writers(notes)}) == 3
    logs = [slurm.log(number, task) for task in range(1, 4)]
    assert all("Traceback" not in log for log in logs)
    assert any("open it with xarray.open_zarr" in log for log in logs)


# The input first, then the cluster.


def another_sweep(folder: Path, _: pytest.MonkeyPatch) -> None:
    sg.run(
        axes={"seq_len": [1, 2]}, values={"model": "llama-3.1-8b", "hardware": "l4", "precision": "fp16"},
        out=folder / "o.zarr",
    ).close()  # fmt: skip


def misspelt(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "s.yaml").write_text(clusters.SWEEP.replace("llama-3.1-8b", "lama-3.1-8b"))


def no_permission(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "access", lambda path, mode: Path(path) != folder)  # who runs as root may write anywhere


FAULTS = {
    "a word in the sweep that nobody knows": (misspelt, (), 2, "unknown model 'lama-3.1-8b'"),
    "a store of another sweep": (another_sweep, (), 2, "holds another sweep"),
    "a folder that cannot be written": (no_permission, (), 3, "cannot be written"),
    "too little memory": (None, ("--memory", "1MiB"), 2, "memory"),
    "a part that is none": (None, ("--part", "5/4"), 2, "part: got '5/4'"),
    "two crews": (None, ("--threads", "2"), 2, "given together"),
}


@pytest.mark.parametrize("option", ["--workers", "--slurm"])
@pytest.mark.parametrize(("fault", "options", "code", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_no_process_is_started_for_what_cannot_be_done(
    fault: Callable[..., None] | None,
    options: tuple[str, ...],
    code: int,
    message: str,
    option: str,
    slurm: Slurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fault is not None:
        fault(tmp_path, monkeypatch)
    (tmp_path / "jobs.yaml").write_text(json.dumps(SMALL))
    monkeypatch.setattr(Cluster, "client", property(lambda _: pytest.fail("a cluster was started")))
    result = run_in(tmp_path, option, "2" if option == "--workers" else tmp_path / "jobs.yaml", *options)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not slurm.numbers


def test_no_process_is_started_while_another_run_writes_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "client", property(lambda _: pytest.fail("a cluster was started")))
    with place_of(tmp_path / "o.zarr").locked():
        result = run_in(tmp_path, "--workers", "2")
    assert result.exit_code == 3
    assert "another run is writing this store" in result.output
