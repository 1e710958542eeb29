"""The benchmark of the solver `serving` runs, and numpy finds the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import deployments


def test_numpy_and_servegrid_agree_and_are_timed() -> None:
    ran = CliRunner().invoke(deployments.main, ["--tiny", "--rounds", "1"])
    assert ran.exit_code == 0, ran.output
    assert "256 points, 30 outputs" in ran.output
    assert ran.output.count("servegrid, ") == 4


def test_a_difference_is_found() -> None:
    evaluator = deployments.prepared(deployments.TINY)
    found = deployments.in_numpy(evaluator)()
    found["tpot"] = found["tpot"] * np.where(np.arange(2) > 0, 1 + 1e-6, 1)
    with pytest.raises(AssertionError, match="tpot"):
        deployments.check(evaluator, found)
