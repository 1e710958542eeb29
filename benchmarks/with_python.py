"""The simulation in plain Python: the module that is otherwise compiled, run as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from servegrid.evaluate import Evaluator
from servegrid.fingerprint import fingerprint
from servegrid.kernel import Kernel


def in_python(evaluator: Evaluator) -> Kernel:
    """The kernel as it is written; its state is in numpy's records."""
    return _kernel(evaluator, np)


def in_lists(evaluator: Evaluator) -> Kernel:
    """The same with state in lists and dictionaries, which Python reads faster than numpy's records.

    Numbers come out the same: what numpy rounds down when it is kept as a whole number is rounded down here, too.
    """
    changed = {name: getattr(np, name) for name in dir(np) if not name.startswith("__")}
    return _kernel(evaluator, SimpleNamespace(**{**changed, "zeros": _zeros}))


def _kernel(evaluator: Evaluator, numpy: Any) -> Kernel:
    program = evaluator.program
    library = _executed(program.library, {"numba": SimpleNamespace(njit=_njit)})
    for name in ("np", "numpy"):
        if hasattr(library, name):
            setattr(library, name, numpy)
    imported = {"numba": SimpleNamespace(njit=_njit), fingerprint(program.library): library}
    return Kernel(program, _silent(_executed(program.source, imported).fill))


def _executed(source: str, imported: dict[str, Any]) -> ModuleType:
    module = ModuleType("uncompiled")
    with _imports(imported):
        exec(compile(source, "<generated>", "exec"), module.__dict__)
    return module


@contextmanager
def _imports(modules: dict[str, Any]) -> Iterator[None]:
    """`import` finds these for a while."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _njit(*_: object, **__: object) -> Callable[[Any], Any]:
    return lambda function: function


def _silent(function: Callable[..., None]) -> Callable[..., None]:
    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):  # compiled code does not warn either
            function(*arguments)

    return run


def _zeros(shape: Any, dtype: Any = float) -> Any:
    if np.dtype(dtype).names is not None:
        return [_Record(dtype) for _ in range(shape)]
    return [0] * shape if isinstance(shape, int) and dtype is np.int64 else np.zeros(shape, dtype)


class _Record(dict[str, Any]):
    """One record as a dictionary."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        kinds = {name: dtype[name].kind for name in dtype.names or ()}
        super().__init__({name: 0 if kind == "i" else 0.0 for name, kind in kinds.items()})
        self.whole = {name for name, kind in kinds.items() if kind == "i"}

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, int(value) if name in self.whole else float(value))
