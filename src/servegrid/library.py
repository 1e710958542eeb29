"""The procedures of a graph, and the responses that they ask, as the source of a module of their own."""

from __future__ import annotations

from collections.abc import Iterator

from servegrid.compiled import INNER, write
from servegrid.graph import Graph
from servegrid.handwritten import written_out
from servegrid.node import Body
from servegrid.response import PHYSICS

_INDENT = "    "


def library_of(graph: Graph) -> str:
    """The module's source; nothing where no procedure is called."""
    return "\n".join(_module(graph)) if graph.calls else ""


def _module(graph: Graph) -> Iterator[str]:
    procedures = [call.procedure for call in graph.calls]
    yield f'"""{", ".join(procedure.name for procedure in procedures)}, and the equations that they ask."""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    yield "from math import inf, log, nan, sqrt"
    yield ""
    yield "from numba import njit"
    yield "from numpy import ceil, floor"
    yield ""
    bodies = {body.response.name: body for call in graph.calls for body in call.bodies}
    for body in bodies.values():
        yield ""
        yield from _response(graph, body)
        yield ""
    groups = [group for procedure in procedures for group in procedure.groups]
    yield written_out(*groups, *(procedure.function for procedure in procedures))


def _response(graph: Graph, body: Body) -> Iterator[str]:
    """A response as a function, to which what does not change comes in an array."""
    response = body.response
    used = {response.gives, *(name for node in body.nodes.values() for name in node.needs)}
    yield f"@njit({INNER})"
    yield f"def {response.name}({', '.join((*response.of, PHYSICS))}):"
    for place, name in enumerate(graph.free):
        if name in used:
            yield f"{_INDENT}{name} = {PHYSICS}[{place}]"
    for name, value in response.fixed.items():
        yield f"{_INDENT}{name} = {float(value)!r}"
    for node in body.nodes.values():
        for target, tree in node.steps:
            yield f"{_INDENT}{target} = {write(graph.coded(tree), {})}"
    yield f"{_INDENT}return {response.gives}"
