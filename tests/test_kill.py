"""No work is lost on one machine: runs that are killed, stopped, refused or starved at any moment, and go on.

Each story ends with the store that nobody disturbed, byte for byte, and no chunk that a run had finished was touched.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import hears_ctrl_c
from contents import attributes, files, timeless
from killing import (
    PATIENCE,
    SWEEP,
    THREADS,
    WRITES,
    Counts,
    Ended,
    Machine,
    Moment,
    Running,
    Story,
    Watch,
    fails,
    first_over,
    killed,
    loses_permission,
    results,
    signalled,
    stamps,
    waits,
)

from servegrid.kernel import CACHE_VARIABLE

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

# Another seed each time finds more; this one makes the choices of a failed test again.
SEED = int(os.environ.get("SERVEGRID_KILL_SEED") or random.randrange(10**6))

# Everything fits, so that a chunk which a longer axis has made stale has other bytes afterwards.
FITTING: dict[str, Any] = {**SWEEP, "values": {**SWEEP["values"], "model": "llama-3.1-8b"}}
GROWN: dict[str, Any] = {
    **FITTING,
    "axes": {**SWEEP["axes"], "hardware": ["h100-sxm", "mi300x", "l4"], "page_size": [1, 16, 300, 512]},
    "outputs": [*SWEEP["outputs"], "max_active_requests"],
}
# 18 MB, which the command takes a second or two to compute and store.
LARGER: dict[str, Any] = {
    **SWEEP,
    "axes": {
        "hardware": ["h100-sxm", "h200", "b200", "mi300x"],
        "max_batch_size": {"from": 1, "to": 64, "step": 1},
        "seq_len": {"from": 1024, "to": 129 * 1024, "step": 1024},
        "page_size": {"from": 1, "to": 32, "step": 1},
    },
}
BUSY = "another run is writing this store; wait until it has ended, or share the work between runs with --part"


@dataclass(frozen=True)
class Undisturbed:
    """A sweep file, and the store that it gives."""

    sweep: Path
    store: Path
    contents: dict[str, bytes]
    spans: dict[str, float]
    """How long the phases took [s]."""
    outputs: tuple[str, ...]

    @property
    def chunks(self) -> set[str]:
        return results(self.contents, self.outputs)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine.of(tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def dice() -> random.Random:
    print(f"SERVEGRID_KILL_SEED={SEED}")
    return random.Random(SEED)


def left_alone(machine: Machine, content: dict[str, Any], store: Path, **settings: Any) -> Undisturbed:
    sweep = store.with_suffix(".yaml")
    sweep.write_text(yaml.safe_dump(content, sort_keys=False))
    ended = machine.run("run", sweep, "--out", store, "--threads", THREADS, **settings)
    assert ended.code == 0, ended.said
    return Undisturbed(sweep, store, timeless(files(store)), ended.spans(), tuple(content["outputs"]))


@pytest.fixture(scope="module")
def undisturbed(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return left_alone(machine, SWEEP, tmp_path_factory.mktemp("undisturbed") / "killed.zarr")


@pytest.fixture(scope="module")
def fitting(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return left_alone(machine, FITTING, tmp_path_factory.mktemp("fitting") / "killed.zarr")


@pytest.fixture(scope="module")
def grown(machine: Machine, fitting: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    store = tmp_path_factory.mktemp("grown") / "killed.zarr"
    shutil.copytree(fitting.store, store)
    return left_alone(machine, GROWN, store)


def story_of(machine: Machine, whole: Undisturbed, out: Path) -> Story:
    command = ("run", str(whole.sweep), "--out", str(out), "--threads", str(THREADS))
    return Story(machine, out, command, whole.contents, whole.outputs)


@pytest.fixture
def story(machine: Machine, undisturbed: Undisturbed, tmp_path: Path) -> Story:
    return story_of(machine, undisturbed, tmp_path / "killed.zarr")


# Killed.

MOST = 60  # kills of one store; a run that loses nothing gets on each time
KILLS = {"layout": 3, "compile": 2, "chunks": 3, "finish": 2}  # of each of the stores
STORES = 5


def some(steps: Sequence[str]) -> Iterator[str]:
    """The steps again and again, but not for ever."""
    return islice(cycle(steps), MOST)


def strike(story: Story, phase: str, times: int, within: float, dice: random.Random, fresh: Path | None = None) -> None:
    """Kill so many runs, each in this phase, at most so long [s] after it entered it."""
    for _ in range(times):
        story.killed_within(phase, dice.uniform(0, within), cache=fresh)


def test_fifty_kills_at_random_moments_lose_nothing(
    machine: Machine, undisturbed: Undisturbed, tmp_path: Path, dice: random.Random
) -> None:
    kills: Counter[str] = Counter()
    for number in range(STORES):
        story = story_of(machine, undisturbed, tmp_path / f"{number}.zarr")
        spans = undisturbed.spans
        strike(story, "layout", KILLS["layout"], spans["layout"], dice)
        # The folder of compiled kernels is empty at first, and then what a killed compiler has left.
        strike(story, "compile", KILLS["compile"], spans["compile"], dice, fresh=tmp_path / f"kernels{number}")
        strike(story, "chunks", KILLS["chunks"], spans["chunks"] / KILLS["chunks"], dice)
        strike(story, "finish", KILLS["finish"], spans["finish"], dice)
        story.finished()
        again = story.begun.total() - len(undisturbed.chunks)
        assert again <= story.kills.total() * THREADS * len(SWEEP["outputs"]), "more than what they had in hand"
        kills += story.kills
    assert kills == {phase: STORES * times for phase, times in KILLS.items()}
    assert kills.total() == 50


def test_a_kill_around_the_writing_of_any_document_loses_nothing(story: Story, undisturbed: Undisturbed) -> None:
    for step in WRITES:
        assert story.run(Moment("layout", step)).code == -signal.SIGKILL
    steps: Counter[str] = Counter()
    for step in some(WRITES):
        if story.run(Moment("layout", step, 3)).code == 0:
            break
        steps[step] += 1
    story.check()
    assert min(steps[step] for step in WRITES) >= 2
    assert set(story.kills) == {"layout"}


def test_a_kill_around_the_writing_of_any_chunk_loses_nothing(story: Story, dice: random.Random) -> None:
    steps: Counter[str] = Counter()
    for step in some(WRITES):
        if story.run(Moment("chunks", step, dice.randint(1, 9))).code == 0:
            break
        steps[step] += 1
        assert step == "replaced" or list(story.out.glob("*/c/**/.*.partial")) != []
    story.check()
    assert min(steps[step] for step in WRITES) >= 2
    assert set(story.kills) == {"chunks"}


def test_a_kill_around_the_writing_of_a_compiled_kernel_loses_nothing(story: Story, tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    for step in some(["replace", "replaced"]):
        if story.run(Moment("compile", step), cache=kernels).code == 0:
            break
    story.check()
    assert story.kills["compile"] >= 4  # the source, the index and the machine code are named at last


def test_a_kill_at_any_step_of_the_finish_loses_nothing(story: Story) -> None:
    assert story.run(Moment("finish")).code == -signal.SIGKILL
    computed = story.begun.total()
    assert attributes(files(story.out))["status"] == "unfinished"
    # The third and last file that is cut off, then the lock.
    for moment in [*(Moment("finish", step) for step in WRITES), *(Moment("finish", "unlink", n) for n in (1, 3, 2))]:
        assert story.run(moment).code == -signal.SIGKILL, moment
    assert "status" not in attributes(files(story.out))
    assert story.finished().code == 0
    assert story.begun.total() == computed
    assert story.kills == {"finish": 1 + 4 + 3}


def test_kills_of_a_run_that_extends_a_store_lose_nothing(
    machine: Machine, fitting: Undisturbed, grown: Undisturbed, tmp_path: Path, dice: random.Random
) -> None:
    story = story_of(machine, grown, tmp_path / "grown.zarr")
    shutil.copytree(fitting.store, story.out)
    old = set(story.good())
    stale = fitting.chunks - old
    assert stale == {key for key in fitting.chunks if not key.startswith("ttft") and key.endswith("/1")}
    steps = [*(Moment("layout", step) for step in WRITES), *(Moment("layout", "unlink", n) for n in (1, 5, 36))]
    for moment in [*steps, Moment("layout", "write", 3), Moment("layout", "replace", 5)]:
        assert story.run(moment).code == -signal.SIGKILL, moment
    strike(story, "chunks", 3, grown.spans["chunks"] / 3, dice)
    strike(story, "finish", 1, grown.spans["finish"], dice)
    story.finished()
    assert story.kills == Counter(layout=len(steps) + 2, chunks=3, finish=1)
    assert set(story.begun) == grown.chunks - old


def test_kills_of_a_repair_lose_nothing(
    machine: Machine, undisturbed: Undisturbed, tmp_path: Path, dice: random.Random
) -> None:
    out = tmp_path / "killed.zarr"
    shutil.copytree(undisturbed.store, out)
    wrong = damage(out, undisturbed, dice)
    command = ("verify", str(out), "--repair", "--sample", "0", "--threads", str(THREADS))
    story = Story(machine, out, command, undisturbed.contents)
    for phase, number in (("layout", 1), ("layout", 1), ("chunks", 3)):
        for step in WRITES:
            assert story.run(Moment(phase, step, number)).code == -signal.SIGKILL
    strike(story, "chunks", 3, undisturbed.spans["chunks"] / 2, dice)
    for step in ("write", "replaced"):
        assert story.run(Moment("finish", step)).code == -signal.SIGKILL
    story.finished()
    assert set(story.begun) == wrong
    assert story.kills == Counter(layout=8, chunks=4 + 3, finish=2)
    assert machine.run("verify", out, "--all").code == 0


def damage(store: Path, whole: Undisturbed, dice: random.Random) -> set[str]:
    """Take chunks and metadata away, or make them wrong; the chunks that are to be mended."""
    (store / "ttft" / "zarr.json").unlink()
    (store / "itl" / "zarr.json").write_bytes(whole.contents["itl/zarr.json"][:-100])
    wrong = dice.sample(sorted(whole.chunks), 30)
    for key in wrong[::2]:
        (store / key).unlink()
    for key in wrong[1::2]:
        content = bytearray(whole.contents[key])
        content[dice.randrange(len(content))] ^= 1
        (store / key).write_bytes(content)
    return set(wrong)


# Together.


MIDDLE = Moment("chunks", "replaced", 5)


def test_of_two_runs_that_start_together_one_is_refused(machine: Machine, story: Story) -> None:
    runs = [machine.start(*story.command, at=MIDDLE, act=waits) for _ in range(2)]
    refused = first_over(*runs)
    (other,) = (run for run in runs if run is not refused)
    refusal = refused.ended()
    other.let_go()
    finished = other.ended()
    assert (refusal.code, refusal.said) == (3, f"servegrid: {story.out}: {BUSY}\n")
    assert not refusal.computed
    assert finished.code == 0, finished.said
    assert finished.counts == Counts(len(story.chunks), 0, len(story.chunks))
    story.check()


def test_any_number_of_parts_make_the_store_together(machine: Machine, story: Story, dice: random.Random) -> None:
    parts = ["1/3", "2/3", "3/3", "2/3", "1/3"]
    for stored in (False, True):
        before = story.good()
        runs = [machine.start(*story.command, "--part", part, at=Moment("start"), act=waits) for part in parts]
        assert all(run.until("waits") for run in runs)
        for run in dice.sample(runs, len(runs)):
            run.let_go()
        ended = [run.ended() for run in runs]
        assert [one.code for one in ended] == [0] * len(parts), [one.said for one in ended]
        assert {key for one in ended for key in one.computed} == (set() if stored else story.chunks)
        story.check()
        if stored:
            assert story.good() == before


def test_parts_may_be_killed_and_run_again(machine: Machine, story: Story) -> None:
    def part(number: int, at: Moment | None = None, act: Callable[[Watch], None] = killed) -> Running:
        return machine.start(*story.command, "--part", f"{number}/2", at=at, act=act)

    # The one that makes the store is killed while the other waits for it.
    maker = part(1, Moment("layout", "fsync", 5), waits)
    assert maker.until("waits")
    other = part(2, Moment("start", "lock", 3), waits)
    assert other.until("waits")  # it has been refused twice
    maker.kill()
    assert maker.ended().code == -signal.SIGKILL
    other.let_go()
    done = other.ended()
    assert done.code == 0, done.said
    missing = len(story.chunks) - len(story.good())
    assert 0 < missing < len(story.chunks)
    expected = f"part 2 of 2 is done; {missing} of {len(story.chunks)} chunks are missing, which other parts compute"
    assert expected in done.said.splitlines()

    assert part(1, MIDDLE).ended().code == -signal.SIGKILL
    before = story.good()
    done = part(1).ended()
    assert done.code == 0, done.said
    assert set(done.computed) == story.chunks - before.keys()
    story.check()


def test_a_plain_run_is_refused_while_a_part_is_under_way(machine: Machine, story: Story) -> None:
    part = machine.start(*story.command, "--part", "2/3", at=MIDDLE, act=waits)
    assert part.until("waits")
    refused = story.run()
    assert (refused.code, refused.said) == (3, f"servegrid: {story.out}: {BUSY}\n")
    part.let_go()
    assert part.ended().code == 0
    story.finished()


def test_a_part_waits_for_a_plain_run(machine: Machine, story: Story) -> None:
    plain = machine.start(*story.command, at=MIDDLE, act=waits)
    assert plain.until("waits")
    part = machine.start(*story.command, "--part", "2/3", at=Moment("start", "lock", 3), act=waits)
    assert part.until("waits")  # it has been refused twice
    part.let_go()
    plain.let_go()
    first, second = plain.ended(), part.ended()
    assert (first.code, second.code) == (0, 0), second.said
    assert not second.computed
    story.check()


def test_the_store_is_finished_though_two_parts_end_at_once(machine: Machine, story: Story) -> None:
    """One has looked what is missing, and not yet let the store go, when the other writes the last chunk."""
    early = machine.start(*story.command, "--part", "1/2", at=Moment("report"), act=waits)
    assert early.until("waits")
    late = machine.run(*story.command, "--part", "2/2")
    early.let_go()
    assert (early.ended().code, late.code) == (0, 0)
    story.check()


# Starved.


def told(story: Story, ended: Ended, what: str) -> None:
    """The run says in one sentence what happened, and how many chunks there are."""
    assert ended.said == f"servegrid: {what}{kept(story, ended.phase)}\n"


def kept(story: Story, phase: str) -> str:
    """How such a sentence ends."""
    there = len(results(stamps(story.out), story.outputs))
    count = "" if phase == "layout" else f"{there} of {len(story.chunks)} chunks are stored, and "
    return f"; {count}the same command goes on from there"


def test_a_disk_that_refuses_any_write_costs_nothing(story: Story) -> None:
    """The next ones are refused, too, until the run has ended."""
    refusals = [
        (errno.ENOSPC, Moment("layout", "write")),
        (errno.EDQUOT, Moment("layout", "fsync", 4)),
        (errno.ENOSPC, Moment("chunks", "write")),
        (errno.EACCES, Moment("chunks", "replace", 17)),
        (errno.EIO, Moment("chunks", "fsync", 15)),
        (errno.EROFS, Moment("chunks", "write", 20)),
        (errno.ENOSPC, Moment("finish", "write")),
    ]
    for number, moment in refusals:
        ended = story.run(moment, act=partial(fails, number), lasts=True)
        assert ended.code == 3, (moment, ended.said)
        assert ended.phase == moment.phase
        told(story, ended, f"{story.out}: could not be written ({os.strerror(number)})")
    story.finished()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no command mount")
    if mounted.returncode:
        pytest.skip(f"only root may mount a file system: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def leave_room(disk: Path, nbytes: int) -> None:
    """Fill the disk, but for so many bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    status = os.statvfs(disk)
    ballast.write_bytes(bytes(status.f_bavail * status.f_frsize - nbytes))


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(
    machine: Machine, undisturbed: Undisturbed, small_disk: Path
) -> None:
    story = story_of(machine, undisturbed, small_disk / "killed.zarr")
    phases = []
    for pages in (2, 20, 30, 40):
        leave_room(small_disk, pages * os.sysconf("SC_PAGESIZE"))
        ended = story.run()
        assert ended.code == 3, ended.said
        told(story, ended, f"{story.out}: could not be written (No space left on device)")
        phases.append(ended.phase)
    assert {"layout", "chunks"} <= set(phases)
    (small_disk / "ballast").unlink()
    story.finished()


def test_a_file_system_that_may_only_be_read_is_refused_and_left_alone(
    machine: Machine, undisturbed: Undisturbed, small_disk: Path
) -> None:
    story = story_of(machine, undisturbed, small_disk / "killed.zarr")
    story.run(MIDDLE)
    before = stamps(story.out)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = story.run()
    assert ended.code == 3
    assert ended.said == (
        f"servegrid: {story.out}: the folder {story.out} cannot be written; choose another, or change its permissions\n"
    )
    assert stamps(story.out) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    story.finished()


def test_permission_that_is_lost_in_the_middle_costs_nothing(machine: Machine, undisturbed: Undisturbed) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folder is closed to the user that root becomes
        Path(folder).chmod(0o755)
        story = story_of(machine, undisturbed, Path(folder) / "killed.zarr")
        ended = story.run(Moment("chunks", "replaced", 9), act=partial(loses_permission, story.out))
        assert ended.code == 3, ended.said
        told(story, ended, f"{story.out}: could not be written (Permission denied)")
        assert 9 <= len(story.good()) < len(story.chunks)
        for path in [story.out, *story.out.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        story.finished()


# Stopped.


def test_a_signal_in_any_phase_stops_the_run_in_one_sentence(story: Story) -> None:
    signals = [
        (signal.SIGINT, Moment("layout", "fsync", 5)),
        (signal.SIGTERM, Moment("compile")),
        (signal.SIGINT, Moment("chunks", "fsync", 9)),
        (signal.SIGTERM, Moment("chunks", "replaced", 20)),
        (signal.SIGINT, Moment("finish")),
        (signal.SIGTERM, Moment("finish", "replaced")),
    ]
    for number, moment in signals:
        ended = story.run(moment, act=partial(signalled, number))
        assert ended.code == 128 + number, (moment, ended.said)
        assert ended.phase == moment.phase
        told(story, ended, "stopped")
    story.finished()


def test_the_command_itself_is_killed_and_stopped_and_goes_on(
    machine: Machine, tmp_path: Path, dice: random.Random
) -> None:
    whole = left_alone(machine, LARGER, tmp_path / "whole.zarr", block_bytes=2**20)
    story = story_of(machine, whole, tmp_path / "killed.zarr")
    # Cut into many blocks, of which the command would make few.
    assert story.run(Moment("chunks"), block_bytes=2**20).code == -signal.SIGKILL
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        before = story.good()
        with command(story) as run:
            wait_for_chunks(story, run, len(before) + dice.randint(1, 6))
            run.send_signal(number)
            _, said = run.communicate(timeout=PATIENCE)
        now = stamps(story.out)
        assert {key: now.get(key) for key in before} == before
        assert len(before) < len(results(now)) < len(story.chunks)
        if number == signal.SIGKILL:
            assert (run.returncode, said) == (-number, "")
        else:
            assert (run.returncode, said) == (128 + number, f"servegrid: stopped{kept(story, 'chunks')}\n")
    with command(story) as run:
        assert run.communicate(timeout=PATIENCE)[1] == ""
    assert run.returncode == 0
    story.check()


def command(story: Story) -> subprocess.Popen[str]:
    """The command itself, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-c", "from servegrid.cli import main; main(prog_name='servegrid')", *story.command],
        env={**os.environ, CACHE_VARIABLE: str(story.machine.cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )


def wait_for_chunks(story: Story, run: subprocess.Popen[str], number: int) -> None:
    """Return when there are so many."""
    until = time.monotonic() + PATIENCE
    while len(results(stamps(story.out))) < number:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
