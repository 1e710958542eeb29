"""Where the closed form (solver `serving`) can be trusted: its errors against the solver `simulation`, by regime.

    python -m benchmarks.closed_form [--tiny] [--out errors.zarr | errors.nc]

Both ask the same equations how long a step takes, so what differs is queueing, prompts that get in the way, lengths
that vary, and memory. Constants of the engine that a simulation plays out are set to what its scheduler does: a request
waits for half a pass and gets its first token with the next one (1.5 steps; 1 where clients send as soon as a pass
ends), and has pages for half of its output on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.validation import markdown
from servegrid.api import sweep

SERVER = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "bf16", "engine": "ideal"}
BASE: dict[str, Any] = {
    **SERVER,
    "input_len": 1000.0,
    "output_len": 200.0,
    "input_cv": 0.5,
    "output_cv": 1.0,
    "length_shape": 2.0,
    "arrival_cv": 1.0,
    "page_size": 16.0,
}
ONLY_SIMULATED = ("input_cv", "length_shape", "requests", "seed")
SCHEDULER = {"queue_share": 1, "output_reserved": 0.5}
STEPS = {"request_rate": 1.5, "concurrency": 1.0}  # of admission
TIMES = ("ttft", "tpot", "request_latency")
COMPARED = (*TIMES, "active_requests", "requests_per_second", "kv_fragmentation")
# All that is asked of the closed form at a rate, and of clients: one kernel each for all questions.
AT_RATES = (*COMPARED, "validity", "saturation_rate", "found_requests", "kv_bytes_per_request")
OF_CLIENTS = (*COMPARED, "validity", "kv_bytes_per_request")
LONGEST_ERROR = 0.1
RULES = {"warmup": 0.25}

Row = dict[str, Any]


@dataclass(frozen=True)
class Extent:
    """How much of it is done."""

    loads: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2)
    few_loads: tuple[float, ...] = (0.3, 0.6, 0.8, 0.9)
    lengths: tuple[tuple[float, float], ...] = (
        (200, 50), (200, 1000), (1000, 1000), (4000, 100), (4000, 1000), (8000, 200)
    )  # fmt: skip
    variations: tuple[float, ...] = (0, 0.3, 0.5, 1, 1.5, 2)
    fitting: tuple[float, ...] = (4, 2, 1.5, 1.2, 1, 0.5)
    pages: tuple[float, ...] = (1, 16, 64, 256)
    arrivals: tuple[float, ...] = (0, 0.5, 2, 3)
    clients: tuple[float, ...] = (1, 2, 4, 8, 32, 128, 256, 512)
    clients_cv: tuple[float, ...] = (0, 0.2, 0.4, 1, 1.5)
    requests: int = 8000


TINY = Extent(
    loads=(0.3, 0.8, 1.2), few_loads=(0.6,), lengths=((4000, 100),), variations=(0, 1), fitting=(2, 0.5), pages=(64,),
    arrivals=(0,), clients=(8, 256), clients_cv=(0, 1), requests=8000,
)  # fmt: skip
OTHERS = (
    {"engine": "vllm"},
    {"model": "llama-3.1-70b", "precision": "fp8", "engine": "vllm", "tensor_parallel": 4.0},
    {"model": "gpt-oss-120b", "hardware": "h200", "precision": "mxfp4", "engine": "vllm"},
)


def at_rates(extent: Extent) -> Iterator[Row]:
    """Points of an open loop, with the share of saturation in place of a rate."""
    for load in extent.loads:
        yield {"regime": "load", "load": load}
    for load in extent.few_loads:
        for prompt, output in extent.lengths:
            yield {"regime": "lengths", "load": load, "input_len": prompt, "output_len": output}
        for cv in extent.variations:
            yield {"regime": "variation, lognormal", "load": load, "output_cv": cv}
            yield {"regime": "variation, long outputs", "load": load, "output_cv": cv, "output_len": 1000}
        yield {"regime": "variation, exponential", "load": load, "length_shape": 3}
        for cv in extent.arrivals:
            yield {"regime": "arrivals", "load": load, "arrival_cv": cv}
        for other in OTHERS:
            yield {"regime": "other servers", "load": load, **other}
    for page in extent.pages:
        yield {"regime": "pages", "load": 0.6, "page_size": page}
    for fits in extent.fitting:
        yield {"regime": "memory", "load": 0.5, "fits": fits}


def of_clients(extent: Extent) -> Iterator[Row]:
    """Points of a closed loop."""
    for clients in extent.clients:
        for cv in extent.clients_cv:
            yield {"regime": f"clients, cv {cv:g}", "concurrency": clients, "output_cv": cv}
    for fits in extent.fitting:
        yield {"regime": "clients, memory", "concurrency": 64.0, "fits": fits}


def points(rows: Iterator[Row], extent: Extent) -> pd.DataFrame:
    """The points with all their inputs."""
    return pd.DataFrame([{**BASE, "tensor_parallel": 1.0, "fits": np.inf, **row} for row in rows]).assign(
        requests=float(extent.requests)
    )


def asked(solver: str, given: pd.DataFrame, outputs: Sequence[str], **values: Any) -> xr.Dataset:
    """A solver's results for points; what the closed form does not know is left out for it."""
    dropped = {"regime", "load", "fits"}
    if solver == "serving":
        other = "concurrency" if "request_rate" in given else "request_rate"
        dropped |= {*ONLY_SIMULATED, other}
    cases = given.drop(columns=list(dropped.intersection(given)))
    return sweep(solver=solver, cases=cases, values=values, outputs=list(outputs)).load()


def at_rate(given: pd.DataFrame) -> xr.Dataset:
    """The closed form's results of an open loop."""
    return asked("serving", given, AT_RATES, **SCHEDULER, admission_steps=STEPS["request_rate"])


def of_so_many(given: pd.DataFrame) -> xr.Dataset:
    """The closed form's results of a closed loop."""
    return asked("serving", given, OF_CLIENTS, **SCHEDULER, admission_steps=STEPS["concurrency"])


def with_rates(given: pd.DataFrame) -> pd.DataFrame:
    """The points with rates for loads, and the memory that so many times the requests need."""
    given = with_memory(given)
    rated = given.assign(request_rate=given.load.to_numpy() * at_rate(given.assign(request_rate=1.0)).saturation_rate)
    need = at_rate(rated)
    return rated.assign(kv_budget=budgets(rated, need.found_requests, need))


def with_memory(given: pd.DataFrame) -> pd.DataFrame:
    """The points with all the memory for caches that there is."""
    idle = given.drop(columns=["concurrency"], errors="ignore")
    return given.assign(kv_budget=asked("serving", idle, ["kv_budget"]).kv_budget.values)


def budgets(given: pd.DataFrame, requests: Any, need: xr.Dataset) -> np.ndarray:
    """The memory for caches: what there is, or so many times what the requests hold."""
    fits = given.fits.to_numpy()
    enough = np.where(np.isfinite(fits), fits, 1) * np.asarray(requests) * need.kv_bytes_per_request.values
    return np.where(np.isfinite(fits), enough, given.kv_budget.to_numpy())


def compared(given: pd.DataFrame, closed: xr.Dataset) -> xr.Dataset:
    """Results of both, and errors, for points and what the closed form says of them."""
    simulated = asked(
        "simulation",
        pd.DataFrame({"request_rate": 0.0, "concurrency": 0.0, **given}),  # one kernel for both
        [*COMPARED, *(f"{name}_ci" for name in TIMES), "preemptions", "waiting_requests"],
        **RULES,
    )
    columns: dict[str, Any] = {"load": np.nan, "request_rate": np.nan, "concurrency": np.nan, **given}
    found = xr.Dataset(coords={name: ("case", np.broadcast_to(columns[name], len(given))) for name in sorted(columns)})
    labels = closed.validity.attrs["flag_meanings"].split()
    found["validity"] = ("case", np.array(labels)[closed.validity.values.astype(int)])
    for name in COMPARED:
        found[f"{name}_simulated"] = ("case", simulated[name].values)
        found[f"{name}_closed"] = ("case", np.broadcast_to(closed[name].values, len(given)).astype(float))
        found[f"{name}_error"] = found[f"{name}_closed"] / found[f"{name}_simulated"] - 1
        half = simulated[f"{name}_ci"].values if name in TIMES else np.zeros(len(given))
        found[f"{name}_ci"] = ("case", half / simulated[name].values)
    for name in ("preemptions", "waiting_requests"):
        found[name] = ("case", simulated[name].values)
    return found


def errors(extent: Extent = Extent()) -> xr.Dataset:
    """The labelled errors of all points."""
    opened = with_rates(points(at_rates(extent), extent))
    clients = with_memory(points(of_clients(extent), extent))
    clients = clients.assign(kv_budget=budgets(clients, clients.concurrency, of_so_many(clients)))
    both = [compared(opened, at_rate(opened)), compared(clients, of_so_many(clients))]
    return xr.concat(both, "case", data_vars="all", coords="all")


def beyond(found: xr.Dataset, name: str) -> xr.DataArray:
    """Where the error is more than 10 %, by more than the simulation's own uncertainty."""
    error = abs(found[f"{name}_error"])
    return (error > LONGEST_ERROR) & ((error > LONGEST_ERROR + found[f"{name}_ci"]) | ~np.isfinite(error))


def error_map(found: xr.Dataset, by: str) -> list[Row]:
    """Median and worst error of each output, by a coordinate: those of finite ones, and how many are beyond."""
    rows = []
    for label in dict.fromkeys(found[by].values.tolist()):
        here = found.isel(case=np.flatnonzero(found[by].values == label))
        row: Row = {by: label, "points": here.sizes["case"]}
        for name in COMPARED:
            error = abs(here[f"{name}_error"].values)
            error = error[np.isfinite(error)]
            told = f"{100 * np.median(error):.1f} / {100 * error.max():.0f} %" if error.size else "endless"
            over = int(beyond(here, name).sum())
            row[name] = f"{told} ({over})" if over else told
        rows.append(row)
    return rows


# --- the highest rate that keeps a limit ---------------------------------------------------------------------------


def sustainable(extent: Extent) -> list[Row]:
    """The highest rate at which the mean time per output token keeps a limit: closed form and simulation."""
    rows = [{"regime": "rate", "load": 0.5, "input_len": i, "output_len": o} for i, o in extent.lengths]
    given = with_rates(points(iter(rows), extent))
    told: dict[str, np.ndarray] = {"limit": 1.5 * at_rate(given).tpot.values}
    simulated = asked(
        "simulation", given.drop(columns="request_rate").assign(request_rate=1.0, tpot_limit=told["limit"]),
        ["max_request_rate"], **RULES, ttft_limit=1e9,
    )  # fmt: skip
    scale = np.linspace(0.5, 2, 151)
    many = given.loc[given.index.repeat(scale.size)].reset_index(drop=True)
    many["request_rate"] *= np.tile(scale, len(given))
    tpot = at_rate(many).tpot.values.reshape(len(given), scale.size)
    ended = many.request_rate.to_numpy().reshape(tpot.shape) * (tpot <= told["limit"][:, None])
    return [
        {"prompts": i, "outputs": o, "limit, ms": f"{1e3 * limit:.1f}", "simulated, 1/s": f"{true:.2f}",
         "closed form": f"{mine:.2f}", "error": f"{100 * (mine / true - 1):+.1f} %"}
        for (i, o), limit, true, mine in zip(
            extent.lengths, told["limit"], simulated.max_request_rate.values, ended.max(1), strict=True
        )
    ]  # fmt: skip


def write(found: xr.Dataset, out: Path) -> None:
    """Keep the errors in a Zarr or NetCDF store."""
    texts = {name: variable.astype(object) for name, variable in found.variables.items() if variable.dtype.kind == "U"}
    found = found.assign_coords(texts)[list(found.data_vars)]  # Zarr has no specification for texts of fixed width
    if out.suffix == ".zarr":
        found.to_zarr(out, mode="w", consolidated=False)
    else:
        found.to_netcdf(out)


def show(title: str, rows: list[Row]) -> None:
    """Print a table."""
    click.echo("\n".join(("", title, "", *markdown(rows))))


@click.command()
@click.option("--tiny", is_flag=True, help="A few points, to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the errors: a .zarr or .nc store.")
def main(tiny: bool, out: Path | None) -> None:
    """Print the error map: median / worst error, in brackets how many points are off by more than 10 %."""
    extent = TINY if tiny else Extent()
    found = errors(extent)
    for by in ("regime", "validity"):
        show(f"By {by}", error_map(found, by))
    if not tiny:  # one more simulation to compile
        show("Highest rate at which the mean time per token keeps a limit", sustainable(extent))
    if out is not None:
        write(found, out)


if __name__ == "__main__":
    main()
