"""Is everything in a store there, whole, and what the equations give? And mend what is not."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np

from servegrid.blocks import owns
from servegrid.errors import CrewError, InputError, MachineError
from servegrid.evaluate import Evaluator
from servegrid.growth import stored_sweep
from servegrid.job import Crew, Job, Memory, Task, check_reach
from servegrid.missing import Missing
from servegrid.place import Place, place_of
from servegrid.planning import DEFAULT_MEMORY, Plan, make_plan
from servegrid.results import changed, fingerprints, template
from servegrid.show import counted, region_text
from servegrid.solvers import Solver
from servegrid.store import ROOT, Root, Store, differing, documents, finish, has_root, lay_out, read_root
from servegrid.threads import Threads

SAMPLE = 16  # blocks that are computed again

Kind = Literal["missing", "damaged", "stale"]


@dataclass(frozen=True)
class Fault:
    """Something that is not as it should be: `key` in the store, which holds `region` (in words)."""

    kind: Kind
    key: str
    region: str


@dataclass(frozen=True)
class Verdict:
    """What was found. `changed`: quantities whose values or equations are not those that the store was made with."""

    place: Place
    chunks: int
    recomputed: int
    blocks: int
    changed: tuple[str, ...]
    faults: tuple[Fault, ...]
    mended: bool

    @property
    def is_good(self) -> bool:
        """Whether the store can be relied upon now."""
        return self.mended or not (self.faults or self.changed)


@dataclass(frozen=True)
class Inspection:
    """The work of looking at blocks: each output of a task is read; in the blocks `again`, computed and compared."""

    evaluator: Evaluator
    store: Store
    again: Collection[int]

    def prepare(self) -> None:
        """Compile the kernel, or take it from the cache."""
        if self.again:
            _ = self.evaluator.kernel

    def do(self, task: Task, worker: str, memory: Memory) -> tuple[Task, dict[str, Kind]]:
        """The outputs that are damaged or stale."""
        region = self.store.blocks[task.block]
        found: dict[str, Kind] = {}
        stored = {}
        for name in task.outputs:
            try:
                stored[name] = self.store.read(region, name)
            except (OSError, MachineError):
                raise
            except Exception:  # whatever a decoder makes of wrong bytes; the checksum first
                found[name] = "damaged"
        if task.block in self.again:
            fresh = self.evaluator.region(region, memory, tuple(stored))
            found |= {name: "stale" for name, values in stored.items() if not _same_bits(values, fresh[name])}
        return task, found


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(_bytes(one), _bytes(other))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def check_store(
    out: str | Path,
    sample: int = SAMPLE,
    everything: bool = False,
    repair: bool = False,
    memory: float | str = DEFAULT_MEMORY,
    crew: Crew | None = None,
    solver: Solver | None = None,
) -> Verdict:
    """Check every chunk of a store against its checksum, and compute some blocks again; see `servegrid.verify`."""
    place = place_of(out)
    look = partial(_Check.of, place, memory, crew or Threads.of(), solver)
    try:
        check = look()
        if not repair:
            return check.verdict(sample, everything)
        place.check()
        if check.changed and not everything:
            raise InputError(
                f"{place}: was made with other values or equations ({', '.join(check.changed)}); "
                "add --all to compute all of it again"
            )
        with place.locked():
            return look().repaired(sample, everything)
    except CrewError as error:
        raise MachineError(f"{place}: {error}") from None
    except OSError as error:
        raise MachineError(f"{place}: could not be read or written ({error.strerror or error})") from error


@dataclass(frozen=True)
class _Check:
    place: Place
    root: Root
    plan: Plan
    store: Store
    faulty: dict[int, dict[str, Kind]] = field(default_factory=dict)
    """Block -> its outputs that are not right."""

    @classmethod
    def of(cls, place: Place, memory: float | str, crew: Crew, solver: Solver | None) -> _Check:
        root = read_root(place)
        if root is None:
            raise InputError(
                f"{place}: is no store that servegrid made, or its zarr.json is missing or damaged; "
                "expected the folder or URL of a store"
            )
        check_reach(place, crew)
        try:
            plan = make_plan(stored_sweep(root, solver), memory, crew, root)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        return cls(place, root, plan, Store(place, plan.evaluator.outputs, plan.blocks))

    @property
    def documents(self) -> dict[str, bytes]:
        return documents(template(self.plan.parameters, self.plan.evaluator), self.plan.blocks, self.store.variables)

    @cached_property
    def changed(self) -> tuple[str, ...]:
        return tuple(changed(self.root.fingerprint, fingerprints(self.plan.parameters)))

    def document_faults(self) -> Iterator[Fault]:
        kind: Kind = "stale" if self.changed else "damaged"
        if not self.changed and not has_root(self.place, self.documents):
            yield Fault(kind, ROOT, "labels and metadata")
        for key in differing(self.place, self.documents):
            yield Fault("missing" if self.place.read(key) is None else kind, key, "labels and metadata")

    def verdict(self, sample: int, everything: bool) -> Verdict:
        """Look at all that is there."""
        faults = list(self.document_faults())
        # A chunk can only be read with the metadata of its array.
        unreadable = {fault.key.removesuffix("/zarr.json") for fault in faults if fault.key.endswith("/zarr.json")}
        return self.verdict_of_chunks(sample, everything, faults, unreadable)

    def verdict_of_chunks(
        self, sample: int, everything: bool, faults: list[Fault], unreadable: Collection[str] = ()
    ) -> Verdict:
        missing = Missing.of(self.store)
        blocks = len(self.plan.blocks)
        again = range(blocks) if everything else frozenset(random.sample(range(blocks), min(sample, blocks)))
        for task in missing.tasks():
            self.faulty[task.block] = dict.fromkeys(task.outputs, "missing")
        inspection = Inspection(self.plan.evaluator, self.store, again)
        inspection.prepare()
        for task, found in self.plan.crew.do(inspection, self._tasks(unreadable)):
            if found:
                self.faulty.setdefault(task.block, {}).update(found)
        faults += [
            Fault(kind, self.store.key(self.plan.blocks[block], name), self._words(block, name))
            for block, outputs in sorted(self.faulty.items())
            for name, kind in outputs.items()
        ]
        if not (missing.absent or self.root.is_finished):
            faults.append(Fault("stale", ROOT, "the status, though nothing is missing"))
        return Verdict(self.place, missing.chunks, len(again), blocks, self.changed, tuple(faults), mended=False)

    def _tasks(self, unreadable: Collection[str]) -> Iterator[Task]:
        """Everything that is there, block by block."""
        for block in range(len(self.plan.blocks)):
            region = self.plan.blocks[block]
            absent = self.faulty.get(block, {})
            there = [
                name
                for name, variable in self.store.variables.items()
                if owns(region, variable) and name not in absent and name not in unreadable
            ]
            if there:
                yield Task(block, tuple(there))

    def _words(self, block: int, name: str) -> str:
        region = self.plan.blocks[block]
        own = {axis: region[axis] for axis in self.store.variables[name].axes}
        return region_text(own, self.plan.parameters.sweep.axes)

    def repaired(self, sample: int, everything: bool) -> Verdict:
        """Write the documents that are wrong; then look, and compute the chunks that are wrong."""
        faults = list(self.document_faults())
        lay_out(self.place, self.documents)
        verdict = self.verdict_of_chunks(sample, everything, faults)
        job = Job(self.plan.evaluator, self.store)
        tasks = (Task(block, tuple(outputs)) for block, outputs in sorted(self.faulty.items()))
        for _ in self.plan.crew.do(job, tasks):
            pass
        left = Missing.of(self.store).absent
        if left:
            raise MachineError(f"{self.place}: {counted(left, 'chunk')} could not be mended")
        finish(self.place)
        return replace(verdict, mended=not verdict.is_good)
