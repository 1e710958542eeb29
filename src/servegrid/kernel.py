"""Loop nests -> machine code, with a cache that is right by construction."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getsource
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import platformdirs

from servegrid.compiled import OPTIONS
from servegrid.fingerprint import fingerprint
from servegrid.program import Program

log = logging.getLogger(__name__)

CACHE_VARIABLE = "SERVEGRID_CACHE_DIR"


@dataclass(frozen=True)
class Kernel:
    """A compiled program."""

    program: Program
    function: Callable[..., None]

    def __call__(
        self,
        sizes: Mapping[str, int],
        inputs: Mapping[str, np.ndarray],
        arrays: Mapping[str, np.ndarray],
        wanted: np.ndarray,
    ) -> None:
        """Fill `arrays` (one C-contiguous array for each stored quantity, along its axes).

        `sizes`: length of each axis. `inputs`: double precision (or flags), C-contiguous, along their axes.
        `wanted`: one flag for each nest; the arrays of other nests are left as they are.
        """
        program = self.program
        self.function(
            wanted,
            *(sizes[axis] for axis in program.loop_axes),
            *(inputs[name].item() for name in program.input_scalars),
            *(inputs[name] for name in program.input_arrays),
            *(arrays[name] for name in program.stored),
        )


_loaded: dict[str, ModuleType] = {}  # by source
_loading = threading.Lock()


def compile_program(program: Program) -> Kernel:
    """The program's kernel: from this process, from the cache folder, or compiled now."""
    if program.library:
        _module_of(program.library)  # the nests import it
    return Kernel(program, _module_of(program.source).fill)


def compile_loop(loop: Callable[..., Any], signature: str) -> Callable[..., Any]:
    """A hand-written loop of `loops`, compiled for these types, and cached like a kernel."""
    header = ["import numpy as np", "from numba import njit", "", "", f"@njit({signature!r}, {OPTIONS})"]
    return cast(Callable[..., Any], getattr(_module_of("\n".join([*header, getsource(loop)])), loop.__name__))


def _module_of(source: str) -> ModuleType:
    with _loading:
        if source not in _loaded:
            _loaded[source] = _load(fingerprint(source), source)
        return _loaded[source]


def cache_folder() -> Path:
    """Where compiled kernels are kept: $SERVEGRID_CACHE_DIR, or the user's own cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("servegrid")) / "kernels"


def _load(name: str, source: str) -> ModuleType:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_foreign(folder)
        return _import(name, source, folder)
    except OSError as error:
        # A kernel that cannot be kept is compiled all the same.
        log.warning("kernels are not cached (%s): set %s to a folder of your own", error, CACHE_VARIABLE)
        with tempfile.TemporaryDirectory(prefix="servegrid-") as folder_name:
            return _import(name, source, Path(folder_name))


def _refuse_foreign(folder: Path) -> None:
    """Machine code is loaded from here: nobody else may be able to write it."""
    if hasattr(os, "getuid"):
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise PermissionError(f"{folder} belongs to another user or can be written by others")


def _import(name: str, source: str, folder: Path) -> ModuleType:
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != source:
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".py", delete=False, encoding="utf-8") as file:
            file.write(source)
        Path(file.name).replace(path)
    try:
        return _execute(name, path)
    except Exception as error:  # whatever a damaged file makes of numba's loader; a true fault comes again
        log.warning("a cached kernel could not be loaded (%r) and is compiled again", error)
        for damaged in folder.glob(f"__pycache__/{name}*"):
            damaged.unlink()
        return _execute(name, path)


def _execute(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # numba's cache looks the module up by its name
    spec.loader.exec_module(module)
    return module
