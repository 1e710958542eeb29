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

    def counted(self, texts: Mapping[str, str]) -> dict[str, xr.DataArray]:
        """How often expressions are true in each group."""


def nothing_found(counter: Counter, of: str | None = None) -> InputError:
    """The message; `of`: the quantity that was asked for, where there is no objective."""
    question = counter.question
    total = prod(int(size) for size in question.source.labels.sizes.values())
    fits = {"fits": FEASIBLE} if FEASIBLE in question.flags else {}
    misses = {
        name: " and ".join([*fits.values(), f"not {name}"]) for name in question.flags if name.startswith(CONDITION)
    }
    met = {"met": " and ".join(question.flags)} if question.flags else {}
    counts = {name: int(values.sum()) for name, values in counter.counted({**fits, **misses, **met}).items()}
    if counts.get("met", total):
        what = of or " and ".join(repr(objective.text) for objective in question.objectives)
        return InputError(
            f"{what} is no number at any of the {plain(counts.get('met', total))} points that count; "
            "ask for another quantity, or give what it needs"
        )
    if fits and not counts["fits"]:
        return InputError(f"none of {plain(total)} points fits the memory; choose smaller models or more memory")
    whole = f"of {plain(total)} points" + (f" {plain(counts['fits'])} fit the memory, and of these" if fits else "")
    excluded = " and ".join(f"{question.flags[name]!r} excludes {plain(counts[name])}" for name in misses)
    return InputError(f"where: nothing meets {question.where!r}: {whole} {excluded}; loosen one of them")
