"""The question with JAX: equations, filter and maximum in one `jit`, double precision; nothing is stored."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.ask_numpy import Ask
from benchmarks.grid import Problem
from benchmarks.question import MOST_ITL, MOST_TTFT, Answer
from benchmarks.with_jax import equations


def best(problem: Problem) -> Ask:
    """The highest score of each group, and its place."""
    jax, run = _compiled(problem, lambda jnp, scores: (scores.max(axis=-1), scores.argmax(axis=-1)))
    return lambda: Answer.of(problem, *jax.block_until_ready(run()))


def highest(problem: Problem) -> Any:
    """The highest score alone, which does not say where it is."""
    jax, run = _compiled(problem, lambda jnp, scores: scores.max(axis=-1))
    return lambda: jax.block_until_ready(run())


def _compiled(problem: Problem, reduced: Any) -> tuple[Any, Any]:
    jax = import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def scores(facts: dict[str, Any]) -> Any:
        found = equations(jnp, facts)
        counts = (found["ttft"] <= MOST_TTFT) & (found["itl"] <= MOST_ITL)  # where nothing fits, ITL is NaN
        each = jnp.where(counts, found["throughput"], -jnp.inf)
        return reduced(jnp, each.reshape(*each.shape[:2], -1))

    facts = {name: jnp.asarray(values) for name, values in problem.facts.items()}
    function = jax.jit(scores).lower(facts).compile()
    return jax, lambda: function(facts)
