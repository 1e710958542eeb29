"""Names for generated modules, which say all that they were made of."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import version

_VERSIONS = ("servegrid", "numba", "llvmlite", "numpy")


def fingerprint(source: str) -> str:
    """A name for the module: a hash of its whole source and of all that compiles it."""
    versions = [f"{package} {version(package)}" for package in _VERSIONS]
    everything = "\n".join([source, *versions, sys.version, platform.machine()])
    return f"kernel_{hashlib.sha256(everything.encode()).hexdigest()[:24]}"
