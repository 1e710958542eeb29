"""Do what a store lacks of a sweep; nothing that is finished is ever lost or done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from signal import SIGINT
from time import monotonic, perf_counter, sleep
from typing import Protocol

from servegrid.errors import CrewError, InputError, MachineError, Stopped
from servegrid.growth import differences, grown_by, in_stored_order, refusal, stored_sweep
from servegrid.job import Crew, Job, check_reach
from servegrid.missing import Missing, Part
from servegrid.parameters import gather
from servegrid.place import BusyError, Place, place_of
from servegrid.planning import DEFAULT_MEMORY, Plan, make_plan
from servegrid.results import template
from servegrid.show import counted, number
from servegrid.store import Root, Store, cut_short, documents, finish, is_laid_out, lay_out, read_root
from servegrid.sweepfile import Sweep
from servegrid.tally import Tally
from servegrid.threads import Threads

MOST_COMPRESSION = 20  # times smaller than the numbers; 4 to 6 is usual
PATIENCE = 60  # [s] that a part waits for the others to make the store


class Progress(Protocol):
    """Is told how a run gets on."""

    def start(self, points: int, done: int) -> None:
        """So many points are in the sweep; so many of them are stored already."""

    def __call__(self, points: int) -> None:
        """So many more points are finished."""


@dataclass(frozen=True)
class Report:
    """What a run did.

    `chunks`: how many there are in all; `stored`: how many were there before; `missing`: how many are not there yet.
    `grown`: by what the store was extended.
    """

    place: Place
    plan: Plan
    part: Part | None
    tally: Tally
    grown: str
    chunks: int
    stored: int
    missing: int
    retries: int
    seconds: float
    start_seconds: float
    disk_bytes: int = 0


@dataclass(frozen=True)
class Agreement:
    """How a sweep and the store at a place go together.

    `root`: of the store that goes on; None where there is none, or where it is thrown away (`replaces`).
    """

    place: Place
    plan: Plan
    root: Root | None
    replaces: bool
    grown: str

    @property
    def documents(self) -> dict[str, bytes]:
        """All but the results."""
        plan = self.plan
        return documents(template(plan.parameters, plan.evaluator), plan.blocks, plan.evaluator.outputs)

    @property
    def is_laid_out(self) -> bool:
        """Whether only results are missing."""
        return self.root is not None and is_laid_out(self.place, self.documents)

    @property
    def store(self) -> Store:
        """The chunks."""
        return Store(self.place, self.plan.evaluator.outputs, self.plan.blocks)

    def lay_out(self) -> None:
        """Make the store ready for results."""
        if self.replaces:
            self.place.clear()
        stale = []
        if self.root is not None:
            stale = cut_short(self.root, self.plan.evaluator.outputs, self.plan.parameters.sizes)
        lay_out(self.place, self.documents, stale)


def agree(
    sweep: Sweep, place: Place, memory: float | str, crew: Crew, overwrite: bool = False, parts: int = 1
) -> Agreement:
    """Look what is at the place, and plan; nothing is touched. InputError where the two do not go together."""
    check_reach(place, crew)
    root = read_root(place)
    if root is None and next(place.keys(), None) is not None:
        root = read_root(place)  # another run has begun it in this moment
        if root is None:
            raise InputError(f"{place}: is no store that servegrid made, and is left as it is; give another name")
    if root is not None:
        try:
            stored = stored_sweep(root, sweep.solver)
            ordered = in_stored_order(sweep, stored)
            found = differences(gather(ordered), root, stored)
        except InputError as error:
            made = root.attributes["servegrid_version"]
            found = [f"made by servegrid {made}, which this one does not understand: {error}"]
        if not found:
            plan = make_plan(ordered, memory, crew, root)
            return Agreement(place, plan, root, False, grown_by(ordered, stored))
        if not overwrite:
            raise refusal(place, found)
    return Agreement(place, make_plan(sweep, memory, crew, parts=parts), None, root is not None, "")


def store_sweep(
    sweep: Sweep,
    out: str | Path,
    memory: float | str = DEFAULT_MEMORY,
    crew: Crew | None = None,
    overwrite: bool = False,
    part: Part | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compute what the Zarr store at `out` lacks of the sweep; it is made where there is none.

    A store of the same sweep goes on where it was; one whose axes or outputs have grown is extended. `part`: only
    this share of the blocks; other runs may do theirs at the same time. InputError before any work where the store
    holds another sweep (unless `overwrite`: then it is thrown away). MachineError where the machine fails on the
    way, and Stopped for Ctrl-C: what is finished is kept.
    """
    place, team = place_of(out), crew or Threads.of()
    started = perf_counter()
    agreed = partial(agree, sweep, place, memory, team, overwrite, part.of if part else 1)
    work = _Work(place, part, progress, started)
    with work.failures():
        place.check()
        _check_disk(place, agreed().plan.stored_bytes)
        with _ready(place, agreed, part) as agreement:
            report = work.do(agreement)
            if part is None:
                finish(place)
        if part is not None:
            report = replace(report, missing=_finish_part(place, agreed, report.missing))
        return replace(report, disk_bytes=place.size())


def _finish_part(place: Place, agreed: Callable[[], Agreement], missing: int) -> int:
    """Finish the store where nothing is missing; return what is.

    Where other parts are at work, the last of them does it: each looks again after it has let go of the lock.
    """
    with suppress(BusyError), place.locked():
        agreement = agreed()
        missing = Missing.of(agreement.store).absent
        if not missing and agreement.is_laid_out:
            finish(place)
    return missing


@contextmanager
def _ready(place: Place, agreed: Callable[[], Agreement], part: Part | None) -> Iterator[Agreement]:
    """The lock, and under it a store that lacks nothing but results."""
    if part is None:
        with place.locked():
            agreement = agreed()
            agreement.lay_out()
            yield agreement
        return
    until = monotonic() + PATIENCE
    while True:
        # Parts share the lock while they compute; whoever finds no store makes it alone.
        with place.locked(shared=True, patience=until - monotonic()):
            agreement = agreed()
            if agreement.is_laid_out:
                yield agreement
                return
        try:
            with place.locked():
                agreed().lay_out()
        except BusyError:
            if monotonic() > until:
                raise
            sleep(0.1)


@dataclass
class _Work:
    """A run under way."""

    place: Place
    part: Part | None
    progress: Progress | None
    started: float
    tally: Tally = field(default_factory=Tally)
    job: Job | None = None

    def do(self, agreement: Agreement) -> Report:
        """Do all that is missing."""
        plan, job = agreement.plan, Job(agreement.plan.evaluator, agreement.store)
        missing = Missing.of(job.store, self.part)
        self.job = job
        if missing.absent:
            plan.crew.get_ready(job)
        begun = perf_counter()
        if self.progress is not None:
            self.progress.start(missing.points, missing.done_points)
        for receipt in plan.crew.do(job, missing.tasks()):
            self.tally.add(receipt)
            if self.progress is not None:
                self.progress(receipt.points)
        seconds = perf_counter() - begun
        left = Missing.of(job.store).absent
        if left and self.part is None:
            raise MachineError(
                f"{self.place}: lacks {counted(left, 'chunk')} again, which somebody else must have taken away"
            )
        return Report(
            place=self.place,
            plan=plan,
            part=self.part,
            tally=self.tally,
            grown=agreement.grown,
            chunks=missing.chunks,
            stored=missing.stored,
            missing=left,
            retries=plan.crew.retries,
            seconds=seconds,
            start_seconds=begun - self.started,
        )

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Say what is kept when the machine fails, or the user stops the work."""
        try:
            yield
        except KeyboardInterrupt as stop:
            raise Stopped(f"stopped{self._kept}", *(stop.args or (SIGINT,))) from None
        except CrewError as error:
            raise MachineError(f"{self.place}: {error}{self._kept}") from None
        except OSError as error:
            reason = error.strerror or error
            raise MachineError(f"{self.place}: could not be written ({reason}){self._kept}") from error

    @property
    def _kept(self) -> str:
        """How much is stored: counted from the store, as workers end what they have in hand."""
        with suppress(OSError):
            if self.job is not None:
                now = Missing.of(self.job.store)
                return f"; {now.stored:,} of {now.chunks:,} chunks are stored, and the same command goes on from there"
        return "; the same command goes on from there"


def _check_disk(place: Place, nbytes: int) -> None:
    """Refuse what no compression could fit on the disk, before it is filled."""
    free = place.free()
    if free is not None and nbytes > MOST_COMPRESSION * free:
        raise MachineError(
            f"{place}: {number(nbytes, 'byte')} of results (before compression) on a disk with "
            f"{number(free, 'byte')} free; choose fewer outputs or points, or another disk"
        )
