"""Graph -> loop nests, written out as source.

All quantities with the same axes share one loop nest; an intermediate that another nest needs is kept in an
array along its own axes. The nests are written out as one plain Python function, which numba compiles; its source
is meant to be read (`servegrid explain --kernel`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from servegrid.compiled import OPTIONS, write
from servegrid.fingerprint import fingerprint
from servegrid.graph import Graph
from servegrid.library import library_of
from servegrid.node import Call
from servegrid.quantity import COMPUTED, SERIES, Kind

_NUMBA_NAMES = {"float64": "float64", "float32": "float32", "int64": "int64", "int8": "int8", "bool": "boolean"}
DTYPES = {
    "float": np.dtype("float64"),
    "int": np.dtype("int64"),
    "bool": np.dtype("bool"),
    "label": np.dtype("int8"),
}
_INDENT = "    "
# Outputs of one nest. LLVM does not vectorise a loop that stores into more than some ten arrays, as it would have to
# check at run time that none of them overlaps any other (29 outputs of `serving`: 78 ns per point in one nest, 56 in
# parts of 8; parts of 4 gain nothing more and take longer to compile).
_MOST_OUTPUTS = 8


def input_dtype(kind: Kind) -> np.dtype[np.generic]:
    """The type in which a kernel takes a quantity of this kind."""
    return DTYPES[kind if kind in COMPUTED else "float"]


@dataclass(frozen=True)
class Nest:
    """One loop nest: the quantities that live on exactly these axes, in an order in which they can be computed."""

    axes: tuple[str, ...]
    quantities: tuple[str, ...]
    loads: tuple[str, ...]  # what it needs from inputs and other nests


@dataclass(frozen=True)
class Program:
    """A graph over axes, arranged in nests; `source` is the Python module that computes it."""

    graph: Graph
    axes: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]
    floats: str = "float64"
    """The type of outputs that are no counts, no flags and no labels."""

    @cached_property
    def nests(self) -> tuple[Nest, ...]:
        """The nests, those with fewer axes first: what a nest needs lies on a subset of its axes."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in self.graph.nodes:
            groups.setdefault(self.axes[name], []).append(name)
        parts = [(axes, part) for axes in sorted(groups, key=len) for part in self._parts(groups[axes])]
        return tuple(Nest(axes, tuple(part), self._loads(part)) for axes, part in parts)

    def _parts(self, group: Sequence[str]) -> Iterator[list[str]]:
        """The group in parts of a few outputs each."""
        part: list[str] = []
        outputs = 0
        called = any(self.graph.nodes[name].call for name in group)  # a procedure gives all that it gives at once
        for name in group:
            if outputs == _MOST_OUTPUTS and self.axes[name] and not called:
                yield part
                part, outputs = [], 0
            part.append(name)
            outputs += name in self.graph.outputs
        yield part

    def _loads(self, group: Sequence[str]) -> tuple[str, ...]:
        needed = (need for name in group for need in self.graph.nodes[name].needs)
        return tuple(dict.fromkeys(need for need in needed if need not in group))

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """The quantities that need an array: outputs, and what one nest hands to another."""
        wanted = self.handed_over | set(self.graph.outputs)
        return tuple(name for name in self.graph.nodes if name in wanted)

    @cached_property
    def handed_over(self) -> frozenset[str]:
        """What one nest hands to another, over axes."""
        return frozenset(load for nest in self.nests for load in nest.loads if self.axes[load])

    @cached_property
    def rounded(self) -> frozenset[str]:
        """Outputs that another nest needs in full: they are computed in an array aside, and rounded from there."""
        return frozenset(name for name in self.graph.outputs if self.dtype(name) == np.float32) & self.handed_over

    @cached_property
    def input_arrays(self) -> tuple[str, ...]:
        """The inputs that vary over axes, or hold a series."""
        return tuple(name for name in self.graph.inputs if name not in self.input_scalars)

    @cached_property
    def input_scalars(self) -> tuple[str, ...]:
        """The inputs that are one number."""
        return tuple(name for name in self.graph.inputs if not self.axes[name] and not self.is_series(name))

    def is_series(self, name: str) -> bool:
        """Whether there are many numbers at each point, along one more dimension."""
        return self.graph.quantity(name).kind == SERIES

    @cached_property
    def loop_axes(self) -> tuple[str, ...]:
        """The axes over which anything is computed."""
        return tuple(axis for axis in self.order if any(axis in nest.axes for nest in self.nests))

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """The type of a result: outputs as their quantity says; inputs and intermediates stay as computed."""
        kind = self.graph.quantity(name).kind
        whole = name in self.graph.outputs and name in self.graph.nodes
        if whole and kind == "float":
            return np.dtype(self.floats)
        return DTYPES[kind] if whole else input_dtype(kind)

    def array_dtype(self, name: str) -> np.dtype[np.generic]:
        """The type of the array that the kernel itself fills."""
        return DTYPES["float"] if name in self.rounded else self.dtype(name)

    @cached_property
    def spelling(self) -> dict[str, str]:
        """How each quantity is called in the source: by its name, unless the source calls something else so."""
        quantities = [*self.graph.inputs, *self.graph.nodes]
        taken = {"array", "fill", "njit", "range", "wanted"}
        taken |= {call.procedure.name for call in self.graph.calls}
        taken |= {group.__name__ for call in self.graph.calls for group in call.procedure.groups}
        taken |= {f"{prefix}_{axis}" for axis in self.order for prefix in ("i", "n")}
        taken |= {f"{name}_of" for name in quantities}
        taken |= {step for node in self.graph.nodes.values() for step, _ in node.steps[:-1]}
        spelling = {}
        for name in quantities:
            free = name
            while free in taken or (free != name and free in quantities):
                free += "_"
            taken.add(free)
            spelling[name] = free
        return spelling

    @cached_property
    def library(self) -> str:
        """The module of the procedures that are called; none without any.

        It depends on no axes: it is compiled once, and then linked with whatever nests call it.
        """
        return library_of(self.graph)

    @cached_property
    def source(self) -> str:
        """The generated module of the nests, which imports from the library by its fingerprint."""
        return "\n".join(_module(self))


# --- writing the source ---------------------------------------------------------------------------------------


def _module(program: Program) -> Iterator[str]:
    outputs = ", ".join(program.graph.outputs)
    yield f'"""{outputs}: {len(program.nests)} loop nests over {", ".join(program.loop_axes) or "no axes"}."""'
    yield ""
    yield "from math import inf, log, nan, sqrt"
    yield ""
    yield "from numba import njit"
    # numpy's floor and ceil stay floats, as the numbers around them are; math's would be integers.
    yield "from numpy import array, ceil, floor"
    if program.library:
        procedures = [call.procedure for call in program.graph.calls]
        groups = {group.__name__ for procedure in procedures for group in procedure.groups}
        names = sorted({*groups, *(procedure.name for procedure in procedures)})
        yield ""
        yield f"from {fingerprint(program.library)} import {', '.join(names)}"
    yield ""
    yield ""
    yield "@njit("
    yield f'{_INDENT}"void("'
    for line in textwrap.wrap(", ".join(_types(program)), 100):
        yield f'{_INDENT}"{line} "'
    yield f'{_INDENT}")",'
    yield f"{_INDENT}{OPTIONS},"
    yield ")"
    yield "def fill("
    yield from _arguments(program)
    yield "):"
    if not program.nests:
        yield f"{_INDENT}pass"
    for index, nest in enumerate(program.nests):
        yield ""
        yield from _nest(program, index, nest)
    yield ""


def _types(program: Program) -> Iterator[str]:
    """The types of the arguments: compiled for these alone, when the module is loaded."""
    yield "boolean[::1]"
    yield from ["int64"] * len(program.loop_axes)
    yield from (_NUMBA_NAMES[program.dtype(name).name] for name in program.input_scalars)
    yield from (_array_type(program, name) for name in (*program.input_arrays, *program.stored))


def _array_type(program: Program, name: str) -> str:
    numba_name = _NUMBA_NAMES[program.array_dtype(name).name]
    dimensions = len(program.axes[name]) + program.is_series(name)
    return f"{numba_name}[{':, ' * (dimensions - 1)}::1]"


def _arguments(program: Program) -> Iterator[str]:
    yield f"{_INDENT}wanted,  # which of the nests to compute"
    if program.loop_axes:
        yield f"{_INDENT}{', '.join(f'n_{axis}' for axis in program.loop_axes)},"
    for names in (program.input_scalars, program.input_arrays, program.stored):
        for name in names:
            quantity = program.graph.quantity(name)
            single = not program.axes[name] and name in program.graph.inputs
            argument = program.spelling[name] if single else f"{name}_of"
            yield f"{_INDENT}{argument},  # {_on_one_line(f'[{quantity.unit}] {quantity.long_name}')}"


def _on_one_line(text: str) -> str:
    """Free text for a comment: a user's line break must not end the comment and begin a statement."""
    return " ".join(text.split())


def _nest(program: Program, index: int, nest: Nest) -> Iterator[str]:
    yield f"{_INDENT}# {' x '.join(nest.axes) or 'the same everywhere'}: {', '.join(nest.quantities)}"
    if nest.axes:  # what has no axes is cheap, and the other nests may need it
        yield f"{_INDENT}if wanted[{index}]:"
    depth = 2 if nest.axes else 1
    for bound in range(len(nest.axes) + 1):
        if bound:
            axis = nest.axes[bound - 1]
            yield f"{_INDENT * depth}for i_{axis} in range(n_{axis}):"
            depth += 1
        for load in nest.loads:
            if program.axes[load] and _depth(program.axes[load], nest.axes) == bound:
                yield f"{_INDENT * depth}{program.spelling[load]} = {_element(program, load)}"
    begun: list[Call] = []
    for name in nest.quantities:
        node = program.graph.nodes[name]
        if node.call:
            if node.call not in begun:
                begun.append(node.call)
                yield f"{_INDENT * depth}{_call(program, node.call)}"
            place = node.call.procedure.results.index(node.quantity)
            yield f"{_INDENT * depth}{program.spelling[name]} = {_results(node.call)}[{place}]"
        spelling = {need: program.spelling[need] for need in node.needs}  # an equation's own steps keep their names
        for target, tree in node.steps:
            called = program.spelling[name] if target == name else target
            yield f"{_INDENT * depth}{called} = {write(program.graph.coded(tree), spelling)}"
        if name in program.stored:
            yield f"{_INDENT * depth}{_element(program, name)} = {program.spelling[name]}"


def _call(program: Program, call: Call) -> str:
    """The call of a procedure, whose results are in an array of its name."""
    groups = [
        f"{group.__name__}({', '.join(program.spelling[name] for name in group._fields)})"
        for group in call.procedure.groups
    ]
    # An array of nothing has no type.
    physics = ", ".join(program.spelling[name] for name in program.graph.free) or "nan"
    return f"{_results(call)} = {call.procedure.name}({', '.join((*groups, f'array(({physics},))'))})"


def _results(call: Call) -> str:
    return f"results_of_{call.procedure.name}"


def _depth(axes: Sequence[str], loops: Sequence[str]) -> int:
    """How many of the loops must be open before something on `axes` can be loaded: as few as possible."""
    return 1 + max(loops.index(axis) for axis in axes)


def _element(program: Program, name: str) -> str:
    return f"{name}_of[{', '.join(f'i_{axis}' for axis in program.axes[name]) or '0'}]"
