"""Why a question has no answer: which condition excludes how many points."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Protocol

import xarray as xr

from servegrid.errors import InputError
from servegrid.parameters import FEASIBLE
from servegrid.query.question import CONDITION, Question
from servegrid.show import plain


class Counter(Protocol):
    """Who can count."""

    @property
    def question(self) -> Question:
        """What was asked."""

    def counted(self, flags: Mapping[str, str], expressions: Mapping[str, str]) -> dict[str, xr.DataArray]:
        """How often flags are true in each group."""


def nothing_found(counter: Counter, of: str | None = None) -> InputError:
    """The message; `of`: the quantity that was asked for, where there is no objective."""
    question = counter.question
    total = prod(int(size) for size in question.source.labels.sizes.values())
    fits = FEASIBLE if FEASIBLE in question.flags else ""
    wanted = {"fits": fits} if fits else {}
    conditions = [name for name in question.flags if name.startswith(CONDITION)]
    misses = {f"asked_miss_{name}": " and ".join(filter(None, [fits, f"not {name}"])) for name in conditions}
    met = {"asked_met": " and ".join(question.flags)} if question.flags else {}
    texts = {**misses, **met}
    counts = {
        name: int(values.sum()) for name, values in counter.counted({**wanted, **{t: t for t in texts}}, texts).items()
    }
    whole = f"of {plain(total)} points"
    if counts.get("asked_met", total):
        names = of or " and ".join(repr(objective.text) for objective in question.objectives)
        what = f"{plain(counts.get('asked_met', total))} points that count" if question.flags else f"{plain(total)} points"
        return InputError(f"{names} is no number at any of the {what}: ask for another quantity, or give what it needs")
    if fits and not counts["fits"]:
        return InputError(f"{whole} none fits the memory: choose smaller models or more memory")
    fitting = f" {plain(counts['fits'])} fit the memory, and of these" if fits else ""
    excluded = [f"{question.flags[name]!r} excludes {plain(counts[f'asked_miss_{name}'])}" for name in conditions]
    return InputError(f"where: nothing meets {question.where!r}: {whole}{fitting} {' and '.join(excluded)}; loosen one of them")
