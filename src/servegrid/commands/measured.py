"""`servegrid validate` and `servegrid calibrate`: measured runs beside predictions, and constants fitted to them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servegrid.commands.options import CATALOG, THREADS, open_console, read_pairs
from servegrid.errors import InputError

if TYPE_CHECKING:
    from servegrid.measured.calibrated import Calibration, Row

_MEASURED = click.argument("measured", type=click.Path(path_type=Path))
_SOLVER = click.option("--solver", default="serving", show_default=True, help="The solver that predicts.")
_SET = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An input that is the same in all rows."
)
_JSON = click.option("--json", "form", flag_value="json", help="Print JSON.")
_CSV = click.option("--csv", "form", flag_value="csv", help="Print CSV.")
_EXAMPLE = "NAME=VALUE such as page_size=32"


@click.command()
@_MEASURED
@_SOLVER
@_SET
@click.option("--by", multiple=True, metavar="COLUMN", help="Errors for each label of a column; may be repeated.")
@click.option("--rival", "rivals", multiple=True, metavar="NAME", help="Whose predictions stand in NAME_<output>.")
@click.option("--out", metavar="FILE", help="A picture, measured against predicted: .png, .svg or .pdf.")
@_JSON
@_CSV
@CATALOG
@THREADS
def validate(
    measured: Path,
    solver: str,
    settings: tuple[str, ...],
    by: tuple[str, ...],
    rivals: tuple[str, ...],
    out: str | None,
    form: str | None,
    catalog: tuple[Path, ...],
    threads: int | None,
) -> None:
    """Compare predictions with measured runs.

    MEASURED is a CSV file with a row for each run. Columns named after inputs (model, hardware, concurrency, ...) are
    inputs, with units where you like; measured_tpot, measured_ttft, measured_throughput hold what was measured
    ("12.3 ms", or seconds). Errors are |predicted/measured - 1|.
    """
    from servegrid.measured.validation import validate as compare

    names = [name.strip() for text in by for name in text.split(",")]
    path = None
    if out is not None:
        from servegrid.plot.files import check_suffix

        path = check_suffix(out)
    found = compare(
        measured, solver=solver, values=read_pairs("--set", settings, _EXAMPLE), by=names, rivals=rivals,
        catalog=catalog, threads=threads,
    )  # fmt: skip
    _print(found.errors(), found.notes, form)
    if path is not None:
        from servegrid.plot.files import save
        from servegrid.plot.scatter import scatters

        drawn = save(scatters(found.points, found.outputs, names[0] if names else None), path)
        click.echo(f"{drawn}", err=form is not None)


@click.command()
@_MEASURED
@click.option("--out", required=True, metavar="FILE", help="The engine, as a file for the catalogue: my-engine.yaml.")
@click.option("--engine", metavar="NAME", help="The engine to start from, where no column says it.")
@click.option("--constants", metavar="NAME,NAME", help="What to fit  [default: what differs between deployments]")
@_SOLVER
@_SET
@_JSON
@_CSV
@CATALOG
def calibrate(
    measured: Path,
    out: str,
    engine: str | None,
    constants: str | None,
    solver: str,
    settings: tuple[str, ...],
    form: str | None,
    catalog: tuple[Path, ...],
) -> None:
    """Fit an engine to measured runs of your own.

    MEASURED is a CSV file as for `validate`, of one engine; ten rows are enough. The errors are those before the fit,
    and those of runs that a fit has not seen. The file that is written holds a new engine, named after the file:
    sweeps use it by `catalog: [my-engine.yaml]` and `engine: my-engine`.
    """
    from servegrid.measured.calibration import calibrate as fit

    names = None if constants is None else [name.strip() for name in constants.split(",")]
    found = fit(
        measured, engine=engine, constants=names, solver=solver, values=read_pairs("--set", settings, _EXAMPLE),
        catalog=catalog, out=out,
    )  # fmt: skip
    if form is None:
        _print_constants(found)
    _print(found.errors(), found.notes, form)
    click.echo(out, err=form is not None)


def _print(rows: Sequence[Row], notes: Sequence[str], form: str | None) -> None:
    for text in notes:
        click.echo(f"note: {text}", err=True)
    if not rows:
        raise InputError("nothing was compared: no run that was measured has a prediction")
    if form == "json":
        click.echo(json.dumps({"rows": [_cleared(row) for row in rows]}, indent=2, ensure_ascii=False))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_cleared(row) for row in rows)
    else:
        from servegrid.measured.tables import error_sheet

        open_console().print(error_sheet(rows))


def _cleared(row: Row) -> dict[str, Any]:
    """The row with nothing where a number does not exist."""
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}


def _print_constants(found: Calibration) -> None:
    from servegrid.measured.tables import constant_sheet

    console = open_console()
    console.print(constant_sheet(found.constants))
    console.print()
