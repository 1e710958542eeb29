"""From a question to its answer: what is looked at, by which reducer, and the dataset around what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import xarray as xr

from servegrid.errors import InputError, shown
from servegrid.job import Crew
from servegrid.parameters import FEASIBLE
from servegrid.query.answer import attributes, by_group, over_groups, places_of, points_dataset
from servegrid.query.empty import nothing_found
from servegrid.query.front import Front
from servegrid.query.question import MET, VALUE, Asked, Question
from servegrid.query.reduce import Bins, Count, Digits, Found, Leaders, Reducer
from servegrid.query.work import SHARES, Progress, look_through

MOST_RANKS = 100_000
RANK = "rank"
WIDTHS = (11, 11, 11, 11, 11, 9)  # [bit] of the digits of a double, from the left


@dataclass(frozen=True)
class Inquiry:
    """A question, and who does the work."""

    question: Question
    crew: Crew
    progress: Progress | None = None

    def look(
        self, looks: Sequence[Sequence[str]], expressions: Mapping[str, str], *reducers: Reducer
    ) -> tuple[Asked, list[Found]]:
        """What the reducers find in these quantities, all of which may be expressions."""
        question = self.question
        numbers = question.numbers([name for look in looks for name in look], expressions)
        sizes = {str(axis): int(size) for axis, size in question.source.labels.sizes.items()}
        asked = Asked(numbers, sizes, question.per, tuple(map(tuple, looks)))
        blocks = question.source.blocks(numbers, SHARES * self.crew.size)
        return asked, look_through(asked, reducers, blocks, self.crew, self.progress)

    def leaders(self, count: int | None = None) -> xr.Dataset:
        """The best point of each group; with a count so many of them, along `rank`."""
        question = self.question
        if len(question.objectives) != 1:
            raise InputError(f"{_given(question)}, expected one to maximize or minimize, such as throughput")
        if count is not None and not (type(count) is int and 1 <= count <= MOST_RANKS):
            raise InputError(f"k: got {shown(count)}, expected a whole number, 1 to {MOST_RANKS:,}")
        scores = question.scores()
        asked, [(_, flat)] = self.look([tuple(scores)], scores, Leaders(count or 1))
        spread = over_groups(question, asked, asked.looks[0], flat).values
        spread = spread[..., 0] if count is None else spread
        exists = spread >= 0
        if not exists.any():
            raise nothing_found(self)
        groups = dict(zip(question.per, np.nonzero(np.atleast_1d(exists)), strict=False))
        places = places_of(spread[exists], asked.along(asked.looks[0]), asked.sizes) | groups
        ranks = {} if count is None else {RANK: np.arange(1, count + 1)}
        return by_group(question, points_dataset(question, places), exists, ranks)

    def frontier(self) -> xr.Dataset:
        """The points of each group that no other one reaches in every objective, along `point`."""
        question = self.question
        if len(question.objectives) < 2:
            raise InputError(f"{_given(question)}, expected two or more to weigh against each other")
        scores = question.scores()
        asked, [(_, fronts)] = self.look([tuple(scores)], scores, Front(len(scores)))
        spread = over_groups(question, asked, asked.looks[0], fronts).values
        flat = np.concatenate([np.zeros(0, np.int64), *spread.reshape(-1)])
        if not len(flat):
            raise nothing_found(self)
        counts = [len(front) for front in spread.reshape(-1)]
        groups = np.unravel_index(np.repeat(np.arange(spread.size), counts), spread.shape) if question.per else ()
        places = places_of(flat, asked.along(asked.looks[0]), asked.sizes)
        return points_dataset(question, places | dict(zip(question.per, groups, strict=True)))

    def count(self) -> xr.Dataset:
        """How many points there are, fit, and meet the filter, in each group."""
        flags = self.question.flags
        texts = {FEASIBLE: FEASIBLE} if FEASIBLE in flags else {}
        texts |= {"met": " and ".join(flags)} if flags else {}
        found = self.counted(texts)
        total = prod(size for axis, size in self._sizes.items() if axis not in self.question.per)
        variables = {"points": xr.full_like(next(iter(found.values()), self._ones), total), **found}
        meanings = {"points": "points of the grid", FEASIBLE: "points that fit the memory", "met": "points that count"}
        for name, variable in variables.items():
            variable.attrs = {"long_name": meanings[name], "units": "1"}
        return self._with_labels(xr.Dataset(variables), "count points")

    def counted(self, texts: Mapping[str, str]) -> dict[str, xr.DataArray]:
        """How often flags are true in each group; name -> count, from name -> expression."""
        if not texts:
            return {}
        expressions = {f"{MET}_{name}": text for name, text in texts.items()}
        looks = [(flag,) for flag in expressions]
        asked, found = self.look(looks, expressions, *(Count() for _ in looks))
        return {
            name: over_groups(self.question, asked, look, counts) * asked.repeated(look)
            for name, look, (counts,) in zip(texts, looks, found, strict=True)
        }

    def histogram(
        self, of: str, bins: int | Sequence[float], span: tuple[float, float] | None, spacing: str
    ) -> xr.Dataset:
        """How many points lie in each bin of a quantity, in each group."""
        self.question.check_number(of, "of")
        edges = self._edges(of, bins, span, spacing)
        asked, [(counts,)] = self.look([(VALUE,)], {VALUE: self.question.counting(of)}, Bins(tuple(edges)))
        array = over_groups(self.question, asked, (VALUE,), counts * asked.repeated((VALUE,))).rename(dim_0="bin")
        array.attrs = {"long_name": f"points by {of}", "units": "1"}
        unit = {"units": asked.graph.quantity(VALUE).unit, "long_name": of}
        sides = {"left": ("bin", edges[:-1], unit), "right": ("bin", edges[1:], unit)}
        return self._with_labels(xr.Dataset({"count": array}, coords=sides), f"histogram of {of}")

    def _edges(
        self, of: str, bins: int | Sequence[float], span: tuple[float, float] | None, spacing: str
    ) -> np.ndarray:
        if spacing not in ("linear", "log"):
            raise InputError(f"spacing: got {shown(spacing)}, expected linear or log")
        if not isinstance(bins, int):
            edges = np.array(bins, float)
            if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
                raise InputError("bins: expected a number of bins, or two or more edges that rise")
            return edges
        if not 1 <= bins <= MOST_RANKS:
            raise InputError(f"bins: got {bins}, expected 1 to {MOST_RANKS:,}")
        low, high = self._span(of) if span is None else span
        if spacing == "log" and not low > 0:
            raise InputError(f"spacing: got log for values from {low:g}, expected positive ones, or linear")
        if not (np.isfinite([low, high]).all() and low <= high):
            raise InputError(f"range: got {low:g} to {high:g}, expected two finite numbers that rise")
        return (
            np.geomspace(low, high, bins + 1)
            if spacing == "log" and low < high
            else np.histogram_bin_edges([low, high], bins)
        )

    def _span(self, of: str) -> tuple[float, float]:
        """The least and the greatest value of all groups."""
        exists = f"{of} == {of}"
        flags = " and ".join([*self.question.flags, exists])
        ends = {"asked_low": f"-({of}) if {flags} else -inf", "asked_high": f"{of} if {flags} else -inf"}
        _, found = self.look([(name,) for name in ends], ends, Leaders(), Leaders())
        low, high = (float(scores.max()) for scores, _ in found)
        if low == -np.inf and high == -np.inf:
            raise nothing_found(self, of)
        return -low, high

    def quantiles(self, of: str, q: Sequence[float]) -> xr.Dataset:
        """Quantiles of a quantity over the points of each group: values that points have (the inverse of the CDF)."""
        levels = np.array(q, float)
        if levels.ndim != 1 or not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
            raise InputError(f"q: got {shown(q)}, expected one number from 0 to 1, or several")
        self.question.check_number(of, "of")
        asked, values = self._selected(of, levels)
        if np.isnan(values).all():
            raise nothing_found(self, of)
        array = over_groups(self.question, asked, (VALUE,), values).rename(dim_0="quantile")
        array.attrs = {"long_name": f"quantiles of {of}", "units": asked.graph.quantity(VALUE).unit}
        return self._with_labels(xr.Dataset({of: array}, coords={"quantile": levels}), f"quantiles of {of}")

    def _selected(self, of: str, levels: np.ndarray) -> tuple[Asked, np.ndarray]:
        """The value at each level in each group, digit by digit of its bits."""
        text = {VALUE: self.question.counting(of)}
        groups = prod(self._sizes[axis] for axis in self.question.per)
        prefix, rank, shift = np.zeros((groups, len(levels)), np.uint64), None, 64
        for width in WIDTHS:
            shift -= width
            asked, [(counts,)] = self.look([(VALUE,)], text, Digits(prefix, shift, width))
            if rank is None:
                total = counts.sum(axis=2)
                # The factor: 0.1 * 30 is a little more than 3.
                rank = np.clip(np.ceil(levels * total * (1 - 1e-15)), 1, None)
                prefix = prefix[: len(counts)]
            reached = counts.cumsum(axis=2)
            digit = (reached < rank[..., None]).sum(axis=2).clip(max=2**width - 1)
            before = np.take_along_axis(reached - counts, digit[..., None], axis=2)[..., 0]
            prefix, rank = prefix << np.uint64(width) | digit.astype(np.uint64), rank - before
        top = np.uint64(1 << 63)
        bits = np.where(prefix & top, prefix ^ top, ~prefix)
        return asked, np.where(total > 0, bits.view(np.float64), np.nan)

    @property
    def _sizes(self) -> dict[str, int]:
        return {str(axis): int(size) for axis, size in self.question.source.labels.sizes.items()}

    @property
    def _ones(self) -> xr.DataArray:
        return xr.DataArray(
            np.ones([self._sizes[axis] for axis in self.question.per], np.int64), dims=self.question.per
        )

    def _with_labels(self, dataset: xr.Dataset, what: str) -> xr.Dataset:
        labels = self.question.source.labels
        along = {axis: labels[axis].variable for axis in self.question.per}
        return dataset.assign_coords(along).assign_attrs(attributes(self.question, what))


def _given(question: Question) -> str:
    return f"got {', '.join(repr(objective.text) for objective in question.objectives) or 'no objective'}"
