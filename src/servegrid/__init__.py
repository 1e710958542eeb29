"""servegrid: explore how large language models are served, a whole design space at once."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servegrid import plot
    from servegrid.api import explain, plan, run, sweep, verify
    from servegrid.catalog import Catalog
    from servegrid.comparison.compare import compare
    from servegrid.continuous_batching import (
        ContinuousBatchingModel,
        ContinuousBatchingResult,
        HardwareNode,
        TransformerWorkload,
    )
    from servegrid.errors import InputError, MachineError
    from servegrid.influence.elasticity import sensitivity
    from servegrid.influence.sobol import sobol
    from servegrid.influence.tornado import tornado
    from servegrid.measured.calibration import calibrate
    from servegrid.measured.validation import validate
    from servegrid.quantity import Bounds, Quantity
    from servegrid.questions import best, count, histogram, open_dataset, pareto, quantile, top
    from servegrid.solvers import CONTINUOUS_BATCHING, SERVING, Solver

# name -> module; imported at first use, so that `servegrid --help` need not load xarray.
_HOMES = {
    "explain": "api",
    "plan": "api",
    "run": "api",
    "sweep": "api",
    "Catalog": "catalog",
    "compare": "comparison.compare",
    "ContinuousBatchingModel": "continuous_batching",
    "ContinuousBatchingResult": "continuous_batching",
    "HardwareNode": "continuous_batching",
    "TransformerWorkload": "continuous_batching",
    "InputError": "errors",
    "MachineError": "errors",
    "sensitivity": "influence.elasticity",
    "sobol": "influence.sobol",
    "tornado": "influence.tornado",
    "calibrate": "measured.calibration",
    "validate": "measured.validation",
    "Bounds": "quantity",
    "Quantity": "quantity",
    "CONTINUOUS_BATCHING": "solvers",
    "SERVING": "solvers",
    "Solver": "solvers",
    "verify": "api",
    "best": "questions",
    "count": "questions",
    "histogram": "questions",
    "open_dataset": "questions",
    "pareto": "questions",
    "quantile": "questions",
    "top": "questions",
}
_MODULES = ("plot",)  # public as they are: sg.plot.heatmap(...)

__all__ = [
    "CONTINUOUS_BATCHING",
    "SERVING",
    "Bounds",
    "Catalog",
    "ContinuousBatchingModel",
    "ContinuousBatchingResult",
    "HardwareNode",
    "InputError",
    "MachineError",
    "Quantity",
    "Solver",
    "TransformerWorkload",
    "best",
    "calibrate",
    "compare",
    "count",
    "explain",
    "histogram",
    "open_dataset",
    "pareto",
    "plan",
    "plot",
    "quantile",
    "run",
    "sensitivity",
    "sobol",
    "sweep",
    "top",
    "tornado",
    "validate",
    "verify",
]


if "xarray" in sys.modules:  # whoever works with datasets has the accessor at once, others with the first function
    import_module("servegrid.accessor")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"servegrid.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'servegrid' has no attribute {name!r}")
    value = getattr(import_module(f"servegrid.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
