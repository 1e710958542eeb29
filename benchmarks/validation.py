"""How right predictions are, on published measurements: the tables of the README, rows where we lose included.

    python -m benchmarks.validation [--tiny]

Three kinds of constants: those of the catalogue; those fitted to the other models, from priors that know none of the
runs, for each model (leave one model out); and those calibrated to ten runs of each deployment, judged by its others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks.validation_models import WEIGHT_OF_DEPLOYMENTS, engines_of_priors, script_steps
from servegrid.api import sweep
from servegrid.measured.fit import Problem
from servegrid.measured.knobs import default_constants, knobs_of
from servegrid.measured.predictions import Predictor
from servegrid.measured.scores import Score, score
from servegrid.measured.table import Measurements, read_measurements
from servegrid.measured.tables import percent
from servegrid.solvers import SERVING

DATA = Path(__file__).parent / "data"
LENGTHS = Path(__file__).parents[1] / "notebooks" / "data" / "azure-2023-lengths.csv"
RIVAL = "aiconfigurator"
OUTPUTS = ("tpot", "ttft")
DEPLOYMENT = ["model", "hardware", "engine", "precision"]
TEN = 10  # rows that a calibration sees
LEAST_OTHERS = 10  # rows of a deployment that judge it
PAGE_SIZES = (1, 8, 16, 32, 64, 128, 256)

Row = dict[str, Any]
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Servers:
    """The runs of whole servers; `every`: only each so many-th."""

    every: int = 1

    @property
    def table(self) -> pd.DataFrame:
        """The file, in which all labels are texts."""
        return pd.read_csv(DATA / "serving_latency.csv", dtype={"engine_build": str, "date": str}).iloc[:: self.every]

    def runs(self, **columns: Any) -> Measurements:
        """The runs, with more columns of inputs."""
        return read_measurements(self.table.assign(**columns), SERVING, [RIVAL])


def predicted(runs: Measurements) -> Columns:
    """With the constants of the catalogue."""
    return Predictor.of(runs, SERVING).predict()


def left_out(runs: Measurements) -> Columns:
    """Each model with constants that were fitted to the others, from priors that know none of these runs."""
    predictor = Predictor.of(runs, SERVING, catalog=[engines_of_priors()])
    knobs = knobs_of(predictor, default_constants(predictor))
    problem = Problem(predictor, runs.measured, knobs, deployment_weights(predictor))
    models = predictor.labels("model")
    return problem.out_of_fold([np.flatnonzero(models == model) for model in dict.fromkeys(models.tolist())])


def deployment_weights(predictor: Predictor) -> np.ndarray:
    """Weights of rows with which each deployment counts alike, however many rows it has."""
    labels = list(zip(*(predictor.labels(name).tolist() for name in DEPLOYMENT), strict=True))
    sizes = np.array([labels.count(label) for label in labels])
    return np.asarray(WEIGHT_OF_DEPLOYMENTS * np.sqrt(len(labels) / len(set(labels)) / sizes))


def calibrated(runs: Measurements) -> tuple[Columns, Columns]:
    """The rows of each deployment but ten, before and after a calibration to those ten; NaN in all other rows."""
    predictor = Predictor.of(runs, SERVING)
    before = predictor.predict()
    after = {name: np.full(len(runs), np.nan) for name in OUTPUTS}
    for rows in deployments(predictor):
        ten = np.sort(np.random.default_rng(0).permutation(rows)[:TEN])
        others = np.setdiff1d(rows, ten)
        found = _after_ten(runs.only(rows), np.searchsorted(rows, ten))
        for name in OUTPUTS:
            after[name][others] = found[name][np.searchsorted(rows, others)]
    return {name: np.where(np.isfinite(after[name]), before[name], np.nan) for name in OUTPUTS}, after


def deployments(predictor: Predictor) -> list[np.ndarray]:
    """The rows of each deployment that has enough of them."""
    labels = np.array(["/".join(each) for each in zip(*(predictor.labels(name) for name in DEPLOYMENT), strict=True)])
    found = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    return [rows for rows in found if rows.size >= TEN + LEAST_OTHERS]


def _after_ten(runs: Measurements, ten: np.ndarray) -> Columns:
    predictor = Predictor.of(runs, SERVING)
    problem = Problem(predictor, runs.measured, knobs_of(predictor, default_constants(predictor)), np.ones(len(runs)))
    return problem.predict(problem.fit(ten))


# --- tables -------------------------------------------------------------------------------------------------------


def overall(servers: Servers) -> list[Row]:
    """All runs, by who predicts with which constants."""
    runs = servers.runs()
    scripted = servers.runs(admission_steps=script_steps(servers.table))
    plain, unseen, rival = predicted(runs), left_out(runs), runs.rivals[RIVAL]
    answered = np.isfinite(rival["tpot"])
    before, after = calibrated(runs)
    rows = {
        "servegrid": plain,
        "servegrid, launch scripts as inputs": predicted(scripted),
        "servegrid, model left out": unseen,
        "servegrid, model left out, scripts": left_out(scripted),
        "AIConfigurator 0.12": rival,
        "servegrid on the same rows": _masked(plain, answered),
        "servegrid, model left out, on the same rows": _masked(unseen, answered),
        "servegrid where ten runs were set aside": before,
        "servegrid, calibrated to those ten": after,
    }
    return [_row({"prediction": name}, columns, runs) for name, columns in rows.items()]


def by_column(servers: Servers, *names: str) -> list[Row]:
    """Ours and the rival's errors on the rows that it answers, for each label of columns: whose median is lower."""
    runs = servers.runs()
    ours, theirs = predicted(runs), runs.rivals[RIVAL]
    labels = servers.table[list(names)].astype(str).agg(" ".join, axis=1).to_numpy()
    rows = []
    for label in dict.fromkeys(labels.tolist()):
        here = (labels == label) & np.isfinite(theirs["tpot"])
        if here.any():
            found: Row = {" ".join(names): label, "rows": int(here.sum())}
            for name in OUTPUTS:
                found |= _contest(name, ours[name], theirs[name], np.where(here, runs.measured[name], np.nan))
            rows.append(found)
    return rows


def _contest(name: str, ours: np.ndarray, theirs: np.ndarray, measured: np.ndarray) -> Row:
    """Median and mean errors of one output, ours and the rival's, and whose median is lower."""
    scores = {"servegrid": score(ours, measured), RIVAL: score(theirs, measured)}
    told = {f"{name} {whose}": f"{percent(found.median)} / {percent(found.mean)}" for whose, found in scores.items()}
    return {**told, f"{name} better": min(scores, key=lambda whose: scores[whose].median)}


def lost(rows: list[Row]) -> list[Row]:
    """The rows in which the rival's median error is the lower one, of either output."""
    return [row for row in rows if RIVAL in (row[f"{name} better"] for name in OUTPUTS)]


def _row(labels: Row, columns: Columns, runs: Measurements) -> Row:
    scores = {name: score(columns[name], runs.measured[name]) for name in OUTPUTS}
    row = {**labels, "rows": scores["tpot"].rows}
    for name, found in scores.items():
        row |= {f"{name} median": found.median, f"{name} mean": found.mean, f"{name} p90": found.p90}
        row[f"{name} rank"] = found.rank
    return row


def _masked(columns: Columns, rows: np.ndarray) -> Columns:
    return {name: np.where(rows, values, np.nan) for name, values in columns.items()}


# --- other measurements -------------------------------------------------------------------------------------------


def kv_capacity() -> tuple[list[Row], Score]:
    """What engines logged at start-up, tokens or bytes, and what we say, for each row; and the errors of all."""
    runs = read_measurements(DATA / "kv_capacity.csv", SERVING)
    predictor = Predictor.of(runs, SERVING, {"engine": "vllm"})
    found = predictor.predict()
    name, logged = "kv_capacity_tokens", runs.measured
    rest = np.isnan(logged[name])
    one = np.where(rest, found["kv_budget"], found[name])
    other = np.where(rest, logged["kv_budget"], logged[name])
    columns = runs.cases.columns
    rows = [
        {"row": columns["row"][index], "model": columns["model"][index], "gpu": columns["gpu"][index],
         "error": f"{100 * (one[index] / other[index] - 1):+.1f} %"}
        for index in range(len(runs))
    ]  # fmt: skip
    return rows, score(one, other)


def inflight_throughput(every: int = 1) -> list[Row]:
    """Tables of TensorRT-LLM: as many requests as fit, 2,048 at most, none of them behind an HTTP server."""
    runs = read_measurements(pd.read_csv(DATA / "throughput.csv").iloc[::every], SERVING)
    values = {
        "engine": "tensorrt-llm",
        "concurrency": 1e6,
        "max_batch_size": 2048,
        "sequence_time": 1e-6,
        "frontend_time": 0,
    }
    predictor = Predictor.of(runs, SERVING, values)
    found, measured = predictor.predict()["throughput"], runs.measured["throughput"]
    rows = [{"by": "all", "label": "", **asdict(score(found, measured))}]
    for name in ("hardware", "model"):
        labels = predictor.labels(name)
        for label in dict.fromkeys(labels.tolist()):
            here = np.where(labels == label, measured, np.nan)
            rows.append({"by": name, "label": label, **asdict(score(found, here))})
    return rows


def page_waste() -> list[Row]:
    """Share of the pages that is empty at a request's end: all requests of a trace replayed, and the equation."""
    rows = []
    for trace, requests in pd.read_csv(LENGTHS).groupby("trace"):
        tokens, count = requests.seq_len.to_numpy(float), requests.requests.to_numpy(float)
        held = (tokens * count).sum()
        found = sweep(
            solver=SERVING, axes={"page_size": list(PAGE_SIZES)}, values={"mean_context": held / count.sum()},
            outputs=["kv_fragmentation"],
        )["kv_fragmentation"]  # fmt: skip
        for page, equation in zip(PAGE_SIZES, found.values.tolist(), strict=True):
            replayed = 1 - held / (np.ceil(tokens / page) * page * count).sum()
            rows.append({"trace": trace, "page size": page, "replayed": replayed, "equation": equation})
    return rows


# --- printing -----------------------------------------------------------------------------------------------------


def markdown(rows: list[Row]) -> Iterator[str]:
    """A table for the README."""
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "|".join("---" if isinstance(value, str) else "--:" for value in rows[0].values()) + "|"
    for row in rows:
        yield "| " + " | ".join(_cell(name, value) for name, value in row.items()) + " |"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if name.endswith("rank") else percent(value)


def _print(title: str, rows: list[Row]) -> None:
    click.echo(f"\n{title}\n")
    for line in markdown(rows):
        click.echo(line)


@click.command()
@click.option("--tiny", is_flag=True, help="Every 23rd row, to see that it runs.")
def main(tiny: bool) -> None:
    """Print all tables, as Markdown."""
    every = 23 if tiny else 1
    servers = Servers(every)
    _print("Whole servers", overall(servers))
    for column in ("model", "hardware", "engine"):
        _print(
            f"By {column}, on the rows that AIConfigurator answers (median / mean error)", by_column(servers, column)
        )
    each = by_column(servers, *DEPLOYMENT)
    _print(f"Where AIConfigurator is better: {len(lost(each))} of {len(each)} deployments", lost(each) or each[:1])
    rows, total = kv_capacity()
    _print("KV capacity", rows)
    _print("", [asdict(total)])
    _print("Output tokens per second, TensorRT-LLM in-flight batching", inflight_throughput(every))
    _print("Empty share of pages at a request's end", page_waste())


if __name__ == "__main__":
    main()
