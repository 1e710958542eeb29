"""Two papers reproduced: what they published, what the simulation gives, and why the two differ.

    python -m benchmarks.papers [--tiny]

Kwon et al. 2023 (vLLM) and Yu et al. 2022 (ORCA). No constant is fitted to what is compared here: see
`data/papers/README.md` for what is known of the set-ups, and `data/papers/engines.yaml` for the engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks.papers_runs import ALLOCATORS, DATA, SERVERS, STAGES, grid, kwon, simulate, yu

PARTS = {  # Fig 2: the quantity, its name there, and the rows of claims.csv, in the order of ALLOCATORS
    "kv_states_share": ("token states", ("C00018", "C00022", "C00026", "C00029")),
    "kv_reserved_share": ("reservation", ("C00019", "C00023", "C00027")),
    "kv_internal_share": ("internal", ("C00020", "C00024")),
    "kv_free_share": ("external and others", ("C00021", "C00025", "C00028")),
}
BATCHED = dict(zip(ALLOCATORS, ("C00031", "C00032", "C00033", "C00034"), strict=True))  # Fig 13a
SLOTS = {"opt-13b": "C00009", "opt-66b": "C00013", "opt-175b": "C00017"}
WHYS = {  # 33.7 % and 31.4 % of 15,744 tokens, over 7 requests
    ("kv_states_share", "orca-max"): "their requests have 758 tokens in the end, ours 707",
    ("kv_internal_share", "orca-max"): "the same",
    ("kv_states_share", "orca-pow2"): "seeds differ by 0.7",
    ("kv_states_share", "orca-oracle"): "seeds differ by 0.7",
    ("kv_free_share", "orca-oracle"): "0.7 of it we count as internal: the last page of a request",
}
PAGE_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BEST = 1.25  # a page size is among the best if its latency is within this factor of the least
LATENCY = 0.5  # s per token, at which the rates of Fig 12 are compared: half of the figures' axis
LIMIT = 0.19  # s per token, of Yu et al.'s headline
FULL = 32  # requests of ORCA's largest batch


@dataclass(frozen=True)
class Row:
    """A comparison; the numbers as texts, as some are ranges."""

    what: str
    published: str
    ours: str
    difference: str
    why: str


def row(what: str, published: float, ours: float, form: str, why: str, points: bool = False) -> Row:
    """A row of two numbers: their difference in per cent, or in percentage points."""
    apart = ours - published if points else 100 * (ours / published - 1)
    told = f"{round(apart, 1) + 0.0:+.1f} {'points' if points else '%'}"
    return Row(what, format(published, form), format(ours, form), told, why)


@cache
def claims() -> Mapping[str, str]:
    """What the papers say, by row."""
    table = pd.read_csv(DATA / "claims.csv", dtype=str).set_index("row_id")
    return dict(table.value)


def claim(row_id: str) -> float:
    """A number that a paper states."""
    text = claims()[row_id]
    return 1e3 * float(text[:-1]) if text.endswith("K") else float(text)


# --- Kwon et al. --------------------------------------------------------------------------------------------------


def slots() -> Iterator[Row]:
    """Table 1: tokens whose cache fits."""
    found = simulate(kwon(model, seconds=1) for model in SERVERS).set_index("model").kv_capacity_tokens
    for model, row_id in SLOTS.items():
        yield row(
            f"Table 1: KV slots, {model}",
            claim(row_id),
            found[model],
            ",.0f",
            "rounded there; memory as PyTorch saw it",
        )


def shares(seeds: Iterable[int] = (0, 1, 2), seconds: float = 900) -> pd.DataFrame:
    """Fig 2: shares of the memory, mean of some seeds: 4 requests per second, the first third not counted."""
    found = simulate(
        grid(kwon, scheduler=[*ALLOCATORS], seed=[*seeds], rate=[4], seconds=[seconds], skipped=[seconds / 3])
    )
    return found.groupby("scheduler", sort=False)[list(PARTS)].mean()


def memory(**more: Any) -> Iterator[Row]:
    """Fig 2, all parts that are published, in per cent of the memory."""
    found = 100 * shares(**more)
    for part, (name, row_ids) in PARTS.items():
        for scheduler, row_id in zip(ALLOCATORS, row_ids, strict=False):
            what = f"Fig 2: {name}, {ALLOCATORS[scheduler]}, %"
            yield row(what, claim(row_id), found[part][scheduler], ".1f", WHYS.get((part, scheduler), ""), points=True)


def batched(seconds: float = 3600) -> pd.Series[float]:
    """Fig 13a: requests that run, mean over time from 600 s on, at 2 requests per second."""
    found = simulate(grid(kwon, scheduler=[*ALLOCATORS], seconds=[seconds], skipped=[600]))
    return found.set_index("scheduler").rank_requests


def running(**more: Any) -> Iterator[Row]:
    """Fig 13a."""
    found = batched(**more)
    whys = (
        ("7 blocks of 2,048 in 15,744",) + ("memory alone decides",) * 2 + ("rate times time: needs the host's time",)
    )
    for (scheduler, row_id), why in zip(BATCHED.items(), whys, strict=True):
        what = f"Fig 13a: batched requests, {ALLOCATORS[scheduler]}"
        yield row(what, claim(row_id), found[scheduler], ".2f", why)


def sensitivity() -> Iterator[Row]:
    """Fig 13a, vLLM, with other host times of a step."""
    published = claim(BATCHED["paged"])
    told: dict[str, dict[str, Any]] = {
        f"vllm-2023, {step} ms of host time": {"step_time": step / 1000} for step in (5, 9, 13)
    }
    told["vllm of the catalogue"] = {"engine": "vllm", "step_time": 0.3e-3}
    cases = [kwon(skipped=600, **changes) for changes in told.values()]
    for name, found in zip(told, simulate(cases).rank_requests, strict=True):
        why = "an engine of 2025: CUDA graphs, 0.3 ms" if name.startswith("vllm of") else "5 to 13 ms are published"
        yield row(f"Fig 13a: vLLM as {name}", published, found, ".2f", why)


def best_pages(found: pd.DataFrame) -> list[int]:
    """Page sizes with about the least latency."""
    close = found.normalized_latency <= BEST * found.normalized_latency.min()
    return [int(size) for size in found.page_size[close]]


def pages() -> Iterator[Row]:
    """Fig 18b: page sizes with about the least latency."""
    for trace, rate, seconds, row_id, why in (
        (
            "sharegpt",
            2.01,
            3600,
            "C00060",
            "large: 2.01 req/s is 95 % of what ours can serve, at 1.8 up to 64; small: cost nothing in our kernels",
        ),
        (
            "alpaca",
            30.1,
            600,
            "C00061",
            "large: spread of lengths unknown, memory is not full in ours; small: as above",
        ),
    ):
        found = simulate(grid(kwon, trace=[trace], rate=[rate], seconds=[seconds], page_size=list(PAGE_SIZES)))
        sizes = best_pages(found)
        yield Row(f"Fig 18b: best block sizes, {trace}", claims()[row_id], f"{sizes[0]} to {sizes[-1]}", "", why)


def rate_at(found: pd.DataFrame, latency: str, limit: float, rate: str) -> float:
    """The rate at which a latency rises beyond a limit; 0 where all are beyond.

    Between two rates, by the logarithms of their latencies.
    """
    ordered = found.sort_values("request_rate")
    rising = np.maximum.accumulate(ordered[latency].to_numpy(float))
    if rising[0] > limit:
        return 0.0
    return float(np.interp(np.log(limit), np.log(rising), ordered[rate].to_numpy(float)))


def sustained(count: int = 24) -> pd.DataFrame:
    """Fig 12: rate at which the mean normalised latency reaches the limit, by model and scheduler."""
    rates = np.geomspace(0.1, 8, count).tolist()
    cases = [
        case
        for model in SERVERS
        for case in grid(
            kwon, model=[model], scheduler=list(ALLOCATORS), rate=rates, seconds=[900 if model == "opt-175b" else 3600]
        )
    ]
    found = simulate(cases).groupby(["model", "scheduler"], sort=False)
    return found.apply(rate_at, "normalized_latency", LATENCY, "request_rate").unstack()


def ratios() -> Iterator[Row]:
    """Fig 12: how much more vLLM sustains, over the three models."""
    found = sustained()
    for scheduler, row_id in (("orca-oracle", "C00045"), ("orca-max", "C00046")):
        each = found.paged / found[scheduler]
        told = ", ".join(f"{each[model]:.1f}" for model in SERVERS)
        why = "the 175B has more memory per request, and ran for 15 minutes only"
        yield Row(f"Fig 12: rates, vLLM over {ALLOCATORS[scheduler]}: 13B, 66B, 175B", claims()[row_id], told, "", why)


# --- Yu et al. ----------------------------------------------------------------------------------------------------


def curves(
    model: str, batches: Iterable[int] = (1, 8, 16, FULL), count: int = 20, requests: int = 2000
) -> pd.DataFrame:
    """Fig 10: ORCA and FasterTransformer of one model, at many rates; `batch` is what either takes at once."""
    cases, sizes_of = [], []
    for scheduler, sizes, rates in (
        ("orca-oracle", list(batches), np.geomspace(0.2, 20, count)),
        ("static", [1, 8], np.geomspace(0.02, 2, count)),
    ):
        each = {"scheduler": [scheduler], "rate": rates.tolist(), "requests": [requests]}
        cases += grid(yu, model=[model], batch=sizes, **each)
        sizes_of += [size for size in sizes for _ in rates]
    return simulate(cases).assign(batch=sizes_of)


def at_latency(found: pd.DataFrame, limit: float) -> pd.Series[float]:
    """Throughput at a median normalised latency, by scheduler: of the best batch."""
    each = found.groupby(["scheduler", "batch"]).apply(rate_at, "normalized_latency_p50", limit, "requests_per_second")
    return each.groupby("scheduler").max()


def batches(found: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, str]]:
    """Fig 10 in numbers: throughput where the latency is twice that of a lone request, for each batch size."""
    for model, each in found.items():
        lone = lone_token(each)
        told = {"": model, "lone token, ms": f"{1e3 * lone:.0f}"}
        for (scheduler, size), one in each.groupby(["scheduler", "batch"]):
            name = "FasterTransformer" if scheduler == "static" else "ORCA"
            rate = rate_at(one, "normalized_latency_p50", 2 * lone, "requests_per_second")
            told[f"{name} {size}"] = f"{rate:.2f}"
        at = at_latency(each, 2 * lone)
        yield {**told, "ratio": f"{at['orca-oracle'] / at['static']:.0f}"}


def lone_token(found: pd.DataFrame) -> float:
    """Time per token of a request that is alone."""
    return float(found.query("scheduler == 'static' and batch == 1").normalized_latency_p50.min())


def orca(found: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Yu et al., section 6.2."""
    at = at_latency(found["gpt-3"], LIMIT)
    faster = "our kernels are those of 2025; theirs need 95 ms per token, see below"
    yield row("175B at 190 ms: ORCA, req/s", claim("Y00031"), at["orca-oracle"], ".2f", faster)
    yield row("175B at 190 ms: FasterTransformer, req/s", claim("Y00032"), at["static"], ".3f", faster)
    why = "both sides are faster by the same factor"
    yield row("175B at 190 ms: ratio", claim("Y00030"), at["orca-oracle"] / at["static"], ".1f", why)
    lone = lone_token(found["gpt-3"])
    yield row("175B: one token, ms (batch unknown; ours 1)", claim("Y00033"), 1e3 * lone, ".0f", "see above")
    double = at_latency(found["gpt-3"], 2 * lone)
    why = "190 ms is twice a token's time; twice ours"
    ratio = double["orca-oracle"] / double["static"]
    yield row(f"175B at {2e3 * lone:.0f} ms: ratio", claim("Y00030"), ratio, ".1f", why)
    small = found["gpt-3-101b"].query("scheduler == 'static'").requests_per_second.max()
    yield row("101B: peak of FasterTransformer, req/s", claim("Y00039"), small, ".2f", "faster kernels again")
    large = at_latency(found["gpt-3-341b"], LIMIT)
    yield Row(
        "341B at 190 ms: ratio",
        "an order of magnitude",
        f"{large['orca-oracle'] / large['static']:.0f}",
        "",
        "no number",
    )
    yield from room()


def room() -> Iterator[Row]:
    """Batches of FasterTransformer, of 2,048 tokens each, that no longer fit."""
    for model, row_id in (("gpt-3-13b", "Y00037"), ("gpt-3-101b", "Y00038")):
        tokens = simulate([yu(model, "static", 1, 1, requests=2)]).kv_capacity_tokens.item()
        first = next(size for size in (1, 2, 4, 8, 16, 32) if 2048 * size > tokens)
        yield row(f"{model}: batch that no longer fits", claim(row_id), first, ".0f", f"room for {tokens / 2048:.1f}")


# --- printing -----------------------------------------------------------------------------------------------------


def kwon_rows(tiny: bool = False) -> Iterator[Row]:
    """The table of Kwon et al."""
    yield from slots()
    yield from memory(seeds=(0,)) if tiny else memory()
    yield from running(seconds=1800) if tiny else running()
    if not tiny:
        yield from sensitivity()
        yield from pages()
        yield from ratios()


def markdown(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """A table for the README."""
    for index, each in enumerate(rows):
        if index == 0:
            yield f"| {' | '.join(each)} |"
            yield f"|---|{'--:|' * (len(each) - 2)}{'---|' if 'why' in each else '--:|'}"
        yield f"| {' | '.join(each.values())} |"


def compared(rows: Iterable[Row]) -> Iterator[dict[str, str]]:
    """Comparisons as rows of a table."""
    for each in rows:
        columns = asdict(each)
        yield {"": columns.pop("what"), **columns}


def _print(title: str, rows: Iterable[Mapping[str, str]]) -> None:
    click.echo(f"\n{title}\n")
    for line in markdown(rows):
        click.echo(line)


@click.command()
@click.option("--tiny", is_flag=True, help="Table 1, Figs 2 and 13a of Kwon et al. alone, shorter runs.")
def main(tiny: bool) -> None:
    """Print all tables, as Markdown."""
    _print("Kwon et al. 2023", compared(kwon_rows(tiny)))
    if not tiny:
        found = {model: curves(model) for model in STAGES}
        _print("Yu et al. 2022", compared(orca(found)))
        _print("Yu et al. 2022, requests per second at twice the latency of a lone one, by batch", batches(found))


if __name__ == "__main__":
    main()
