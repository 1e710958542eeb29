"""Hand-written functions as source: with whatever of their own package, or of this one, they use, as one module."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from servegrid.compiled import INNER
from servegrid.response import Response

_DECORATOR = f"@njit({INNER})"
# What others call: the machine code is kept, so that they need not compile it again.
_ENTRY = f"@njit({INNER}, cache=True)"


@cache
def written_out(*functions: Callable[..., Any]) -> str:
    """The source of functions and classes below all that they use: functions to be compiled, numbers, imports.

    numba's own cache does not notice a change in a function that is imported; here, nothing is.
    """
    entries = [f"def {function.__name__}(" for function in functions]
    parts = [part for part in _used(functions) if isinstance(part, str)]
    parts = [part.replace(_DECORATOR, _ENTRY) if any(entry in part for entry in entries) else part for part in parts]
    imports = sorted(part for part in parts if part.startswith(("import ", "from ")))
    return "\n\n\n".join(["\n".join(imports), *(part for part in parts if part not in imports)])


@cache
def responses_of(*functions: Callable[..., Any]) -> tuple[Response, ...]:
    """The responses that the functions, and whatever they use, ask."""
    return tuple(part for part in _used(functions) if isinstance(part, Response))


def _used(functions: tuple[Callable[..., Any], ...]) -> Iterable[str | Response]:
    """The functions and all that they use, each after what it uses itself."""
    found: dict[str, str | Response] = {}
    own = {__package__, *(_package(function) for function in functions)}
    for function in functions:
        _add(function.__name__, function, found, own)
    return found.values()


def _package(value: Any) -> str:
    return getattr(value, "__module__", "").partition(".")[0]


def _add(name: str, value: Any, found: dict[str, str | Response], own: set[str]) -> None:
    """Put what is called `name` into `found`, after all that it uses; what is not of our `own` is imported."""
    if name in found:
        return
    if isinstance(value, ModuleType):
        found[name] = f"import {value.__name__} as {name}"
    elif isinstance(value, int | float | tuple):
        found[name] = f"{name} = {value!r}"
    elif isinstance(value, np.dtype):
        _add("np", np, found, own)
        found[name] = f"{name} = np.dtype({value.descr!r})"
    elif isinstance(value, Response):
        found[name] = value  # of which a graph makes a function
    elif _package(value) in own:
        source = textwrap.dedent(inspect.getsource(value))
        for used in _names(source):
            known = inspect.getmodule(value).__dict__
            if used in known and used != name:
                _add(used, known[used], found, own)
        found[name] = f"{_DECORATOR}\n{source}" if isinstance(value, FunctionType) else source
    else:
        found[name] = f"from {value.__module__} import {name}"


def _names(source: str) -> list[str]:
    """The names that the code reads, annotations apart."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return list(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))
