"""What the sweep of a run holds: how much is feasible, and the best point for each pair of labels of two axes.

It is a question, asked when the run is done. To compute all points once more in cache takes a fraction of the time that
storing them took, and no result has to be kept or read for it; where points are simulated, the store is asked instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGINT

import numpy as np
import xarray as xr

from servegrid.errors import CrewError, MachineError, Stopped
from servegrid.job import Progress
from servegrid.parameters import FEASIBLE, describe
from servegrid.planning import Plan
from servegrid.query.answer import POINT, by_group, leading, over_groups, with_labels
from servegrid.query.ask import Inquiry
from servegrid.query.question import Asked, Question
from servegrid.query.reduce import Count, Leaders, Reducer
from servegrid.query.source import Source
from servegrid.query.stored import Stored
from servegrid.query.swept import Swept
from servegrid.runner import Report
from servegrid.store import open_store
from servegrid.sweepfile import ASKED, SELECTED

MOST_LABELS = 64  # of an axis for each of whose labels the best point is shown
FLAGS = (FEASIBLE, SELECTED)


@dataclass(frozen=True)
class Summary:
    """What a whole grid holds.

    `shares`: of the points at which each flag is true. `best`: as `servegrid.best` has it; None where no output is
    better higher or lower, or no point counts.
    """

    shares: Mapping[str, float]
    best: xr.Dataset | None


def summarise(done: Report, progress: Progress | None = None) -> Summary:
    """Sum up the sweep of a run, with the crew of the run."""
    with _failures(done):
        return _summarise(done.plan, _source(done), progress)


def _source(done: Report) -> Source:
    """The sweep; the store instead where a point takes milliseconds, and reading it less."""
    return Stored(open_store(str(done.place))) if done.plan.evaluator.is_slow else Swept(done.plan.parameters.sweep)


def _summarise(plan: Plan, source: Source, progress: Progress | None) -> Summary:
    question = _question(plan, source)
    scores = question.scores()
    flags = {f"{ASKED}{flag}": flag for flag in FLAGS if flag in plan.evaluator.outputs}
    if not scores and not flags:
        return Summary({}, None)
    # All in one program, which is one to compile; the score comes first. What is stored can only be looked at under a
    # name of its own.
    looks: dict[tuple[str, ...], Reducer] = {tuple(scores): Leaders()} if scores else {}
    looks |= {(name,): Count() for name in flags}
    asked, found = Inquiry(question, plan.crew, progress).look(list(looks), {**scores, **flags}, *looks.values())
    counts = zip(flags.items(), found[len(looks) - len(flags) :], strict=True)
    shares = {flag: _share(plan, question, asked, name, counted) for (name, flag), (counted,) in counts}
    return Summary(shares, _best(plan, question, asked, found[0][1]) if scores else None)


def objective(plan: Plan) -> str | None:
    """The first computed output that is better higher or lower: what a summary looks for."""
    solver = plan.parameters.sweep.solver
    for name in plan.evaluator.outputs:
        if name in solver.names and solver.quantity(name).better:
            return name
    return None


def _question(plan: Plan, source: Source) -> Question:
    sweep, name = plan.parameters.sweep, objective(plan)
    if name is None:
        return Question.of(source)
    words = {"maximize" if sweep.solver.quantity(name).better == "higher" else "minimize": name}
    return Question.of(source, **words, per=_groups(plan, name))


def _groups(plan: Plan, name: str) -> list[str]:
    """The axes for each of whose labels a best point is shown: the first two, which the question is about."""
    axes = {axis for ranked in (name, *FLAGS) for axis in plan.parameters.axes.get(ranked, ())}
    return [axis for axis, size in plan.parameters.sizes.items() if axis in axes and size <= MOST_LABELS][:2]


def _share(plan: Plan, question: Question, asked: Asked, flag: str, counts: np.ndarray) -> float:
    true = over_groups(question, asked, (flag,), counts) * asked.repeated((flag,))
    return int(true.sum()) / plan.points


def _best(plan: Plan, question: Question, asked: Asked, flat: np.ndarray) -> xr.Dataset | None:
    exists, places = leading(question, asked, flat[:, 0])
    if not exists.any():
        return None
    graph = plan.parameters.graph
    values = {name: values for name, values in plan.evaluator.points(places).items() if name not in FLAGS}
    dataset = xr.Dataset({name: (POINT, array, describe(graph.quantity(name))) for name, array in values.items()})
    idle = [axis for axis in places if axis not in asked.along(asked.looks[0])]  # where every label is as good
    return by_group(question, with_labels(question, dataset, places), exists, {}).drop_vars(idle)


@contextmanager
def _failures(done: Report) -> Iterator[None]:
    """Say that the results are safe when the summary fails, or the user does not wait for it."""
    kept = f"{done.place} is finished, and the same command sums it up"
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(f"stopped; {kept}", *(stop.args or (SIGINT,))) from None
    except CrewError as error:
        raise MachineError(f"{error}; {kept}") from None
