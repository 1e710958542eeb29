"""The same equations for another value of one quantity: a step of a full batch, the latency of a lone request."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from servegrid.quantity import Quantity, quantity_of

Equation = Callable[..., float]


@dataclass(frozen=True)
class Variant:
    """An equation whose quantity and some of whose arguments have another name."""

    base: Equation
    declared: Quantity
    renamed: tuple[tuple[str, str], ...]  # argument of the base, and what it is called here

    @property
    def __quantity__(self) -> Quantity:
        return self.declared

    @property
    def __doc__(self) -> str:  # type: ignore[override]  # text as any, but of the base
        return inspect.getdoc(self.base) or ""

    def __call__(self, **given: float) -> float:
        """Return what the base gives for these arguments, by their names here."""
        names = {new: old for old, new in self.renamed}
        return self.base(**{names.get(name, name): value for name, value in given.items()})


def variants(equations: Mapping[str, Equation], changed: str, suffix: str, meaning: str) -> dict[str, Variant]:
    """Variants, under names with a suffix, of all equations that depend on the quantity `changed`.

    They take it from the quantity `changed` with the suffix, which is for the solver to define. `meaning` is added to
    what each is called.
    """
    needs = {name: tuple(inspect.signature(equation).parameters) for name, equation in equations.items()}
    dependent = {changed}
    while more := {name for name in needs if dependent.intersection(needs[name])} - dependent:
        dependent |= more
    found = {}
    for name in sorted(dependent - {changed}):
        declared = quantity_of(equations[name])
        named = replace(declared, name=f"{name}_{suffix}", long_name=f"{declared.long_name}, {meaning}")
        renamed = tuple((need, f"{need}_{suffix}") for need in needs[name] if need in dependent)
        found[named.name] = Variant(equations[name], named, renamed)
    return found
