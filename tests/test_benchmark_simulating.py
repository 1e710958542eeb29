"""The benchmark of simulations runs; plain Python simulates the same; Vidur is given what we were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import simulating
from benchmarks.ask_vidur import CONTEXT, LAYERS, Asked, requests_of, times_of
from benchmarks.simulations import Case, Ran, best, run
from benchmarks.with_python import in_lists, in_python


def test_it_prints_all_tables(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--tiny", "--rounds", "1", "--no-compile", "--json", str(file)]
    done = CliRunner(env={simulating.VIDUR_VARIABLE: None}).invoke(simulating.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "Vidur: not installed" in done.output
    found = json.loads(file.read_text())
    assert len(found["cases"]) == 12
    assert all(row["passes"] > 0 and row["passes_per_second"] > 0 for row in found["cases"])
    assert {row["name"] for row in found["rivals"]} == {simulating.SERVEGRID, simulating.LISTS, simulating.RECORDS}
    assert found["two_threads"] > 0


def test_plain_python_simulates_the_same_and_is_slower() -> None:
    # Memory for a tenth of the requests: all that a scheduler does happens.
    loaded = {"concurrency": 40, "input_len": 300, "output_len": 40, "output_cv": 1, "length_shape": 3, "requests": 60}
    for scheduler in ("paged-swap", "chunked"):
        evaluator = Case("loaded", scheduler, {**loaded, "pool_pages": 120, "chunk_size": 512}).evaluator()
        ours = best(evaluator, 5)
        assert ours.found["preemptions"] > 0
        for kernel in (in_python, in_lists):
            row = simulating.Row(kernel.__name__, Case("loaded", scheduler), run(evaluator, kernel))
            simulating.check(ours.found, row)
            assert row.ran.found["passes"] == ours.found["passes"]
            assert row.ran.found["simulated_time"] == ours.found["simulated_time"]
            assert row.ran.seconds > 5 * ours.seconds


def test_a_difference_is_found() -> None:
    row = simulating.Row("other", Case("trace", "paged"), Ran({"passes": 2.0}, 1.0))
    with pytest.raises(ArithmeticError, match=r"other: passes is 2\.0, expected 1\.0"):
        simulating.check({"passes": 1.0}, row)


def test_vidur_is_given_our_requests_memory_and_step_times() -> None:
    asked = Asked.of(Case("trace", "paged").few(10).evaluator())
    requests = requests_of(asked)
    assert len(requests) == 10
    assert requests[0] == (0.0, 374, 44)  # the first row of the trace
    times = times_of(asked)
    seconds = {
        name: dict(zip(table["keys"], np.array(table["milliseconds"]) * LAYERS / 1000, strict=True))
        for name, table in times.items()
    }
    requests_at_once, context = 8, 4 * CONTEXT
    taken = seconds["mlp_up_proj"][(8,)] + seconds["attn_decode"][(requests_at_once, context)]
    assert taken == pytest.approx(asked.library.decode_time.py_func(8.0, float(context), asked.physics))
    alone = seconds["mlp_up_proj"][(1024,)] + seconds["attn_prefill"][(1024, 1024)]
    attention = asked.library.attention_time.py_func(1024.0, 1024.0, asked.physics)
    assert alone == pytest.approx(asked.library.prompt_time.py_func(1024.0, 0.0, attention, asked.physics))


def test_a_program_that_is_none_is_refused() -> None:
    done = CliRunner().invoke(simulating.main, ["--vidur-python", "/nonexistent/python"])
    assert done.exit_code == 2
    assert "is no program" in done.output
