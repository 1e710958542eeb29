"""`servegrid compare A B`: what changed between two sweeps."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import click

from servegrid.commands.options import THREADS, open_console

if TYPE_CHECKING:
    from servegrid.comparison.changes import Comparison


@click.command()
@click.argument("one")
@click.argument("other")
@click.option(
    "--tolerance", type=float, default=0.0, help="Relative difference to ignore, such as 1e-9  [default: none]"
)
@click.option("--json", "form", flag_value="json", help="Print all of it as JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print a row of CSV for each variable.")
@THREADS
def compare(one: str, other: str, tolerance: float, form: str | None, threads: int | None) -> None:
    """Show what changed from one sweep to another.

    ONE and OTHER are stores, or sweep files, which are computed. Labels, inputs, equations and versions; then each
    variable on the labels that both have. Exit code 1 where something changed, as of diff.
    """
    from servegrid import report
    from servegrid.comparison.compare import compare as compare_sweeps
    from servegrid.comparison.tables import print_comparison

    console = open_console()
    with report.progress_bar(console, "comparing") as bar:
        found = compare_sweeps(one, other, tolerance=tolerance, threads=threads, progress=bar)
    if form == "json":
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    elif form == "csv":
        _print_csv(found)
    else:
        print_comparison(console, found)
    if found.changed:
        sys.exit(1)


def _print_csv(found: Comparison) -> None:
    rows = found.to_dict()["variables"]
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        where = "; ".join(f"{axis}={label}" for axis, label in row["where"].items())
        writer.writerow({**row, "axes": " ".join(row["axes"]), "where": where})
