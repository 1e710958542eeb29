"""Generated kernels and hand-written loops as plain Python: no time to compile, and the same bits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from servegrid.fingerprint import fingerprint
from servegrid.kernel import Kernel
from servegrid.program import Program

_ONE_AT_A_TIME = threading.Lock()  # modules are the same for all threads


def uncompiled(program: Program) -> Kernel:
    """The generated modules as plain Python: their decorator does nothing."""

    def njit(*_: object, **__: object) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return lambda function: function

    nests = ModuleType("nests")
    library = ModuleType(fingerprint(program.library))
    with _ONE_AT_A_TIME, pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", SimpleNamespace(njit=njit))
        patch.setitem(sys.modules, library.__name__, library)
        exec(compile(program.library, "<library>", "exec"), vars(library))
        exec(compile(program.source, "<generated>", "exec"), vars(nests))
    return Kernel(program, _silent(nests.fill))


def _silent(function: Callable[..., None]) -> Callable[..., None]:
    """The function without numpy's warnings: compiled code does not warn either."""

    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return run


@contextmanager
def nothing_compiled() -> Iterator[pytest.MonkeyPatch]:
    """Everything runs as plain Python."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("servegrid.evaluate", "servegrid.query.work"):
            patch.setattr(f"{module}.compile_program", uncompiled)
        for module in ("servegrid.query.reduce", "servegrid.query.front"):
            patch.setattr(f"{module}.compile_loop", lambda loop, _: loop)
        yield patch
