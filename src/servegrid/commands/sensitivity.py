"""The command `servegrid sensitivity`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servegrid.commands.options import SWEEP, THREADS, open_console, read_pairs
from servegrid.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from servegrid.influence.tables import Row
    from servegrid.sheet import Sheet
    from servegrid.sweepfile import Sweep

    Tables = tuple[Callable[[xr.Dataset], list[Row]], Callable[[xr.Dataset, Mapping[str, str]], Sheet]]


@click.command()
@SWEEP
@click.option("--output", "outputs", multiple=True, metavar="NAME", help="An output  [default: the sweep's own]")
@click.option("--input", "inputs", multiple=True, metavar="NAME", help="An input  [default: all]")
@click.option("--step", help="By how much each input is changed  [default: 10%; --tornado: 20%]")
@click.option("--at", multiple=True, metavar="AXIS=LABEL", help="Only this part of the grid, or this point.")
@click.option("--tornado", metavar="OUTPUT", help="At one point: each input in turn at both ends of its range.")
@click.option("--sobol", metavar="OUTPUT", help="At one point: shares of the variance, all inputs over their ranges.")
@click.option("--range", "ranges", multiple=True, metavar="NAME=LOW..HIGH", help="Such as hbm_bandwidth=2..8TB/s.")
@click.option("--json", "form", flag_value="json", help="JSON instead of a table.")
@click.option("--csv", "form", flag_value="csv", help="CSV instead of a table.")
@THREADS
def sensitivity(
    sweep: Path,
    at: tuple[str, ...],
    tornado: str | None,
    sobol: str | None,
    form: str | None,
    ranges: tuple[str, ...],
    **options: Any,
) -> None:
    """Say what 10 % more of each input buys.

    For each input and output the elasticity: by how many percent the output rises for each percent of the input. Of a
    sweep along axes the median over all points, and what 10 % to 90 % of them have.
    """
    from servegrid.api import load

    checked = load(sweep)
    words: dict[str, Any] = {"at": read_pairs("--at", at, "AXIS=LABEL such as model=llama-3.1-8b")}
    spans = read_pairs("--range", ranges, "NAME=LOW..HIGH such as hbm_bandwidth=2..8TB/s")
    chosen = {name: value for name, value in options.items() if value not in (None, ())}
    if tornado is None and sobol is None:
        _refuse("--range", spans, "with --tornado or --sobol")
        dataset, tables = _elasticities(checked, {**words, **chosen})
    else:
        if tornado is not None and sobol is not None:
            raise InputError("--tornado, --sobol: got both, expected one of them")
        for name in ("outputs", "inputs", *(["step"] if sobol else [])):
            _refuse(f"--{name.removesuffix('s')}", chosen.get(name), "without --tornado and --sobol")
        words |= {"ranges": spans} if spans or sobol else {}
        dataset, tables = _at_a_point(checked, tornado, sobol, {**words, **chosen})
    _show(checked, dataset, tables, form)


def _refuse(option: str, given: object, where: str) -> None:
    if given:
        raise InputError(f"{option}: has no meaning here, expected it {where}")


def _elasticities(sweep: Sweep, words: Mapping[str, Any]) -> tuple[xr.Dataset, Tables]:
    from servegrid.influence import elasticity, tables

    return elasticity.sensitivity(sweep, **words), (tables.elasticity_rows, tables.elasticity_sheet)


def _at_a_point(
    sweep: Sweep, tornado: str | None, sobol: str | None, words: Mapping[str, Any]
) -> tuple[xr.Dataset, Tables]:
    from servegrid.influence import tables

    if tornado is not None:
        from servegrid.influence.tornado import tornado as blow

        return blow(sweep, output=tornado, **words), (tables.tornado_rows, tables.tornado_sheet)
    from servegrid.influence.sobol import sobol as share_out

    assert sobol is not None
    return share_out(sweep, output=sobol, **words), (tables.sobol_rows, tables.sobol_sheet)


def _show(sweep: Sweep, dataset: xr.Dataset, how: Tables, form: str | None) -> None:
    from servegrid.influence import tables

    rows, sheet = how
    if form == "json":
        click.echo(tables.as_json(tables.heading(dataset), rows(dataset)))
    elif form == "csv":
        click.echo(tables.as_csv(rows(dataset)), nl=False)
    else:
        console = open_console()
        for line in tables.lead(dataset):
            console.print(line)
        units = {name: sweep.solver.quantity(name).unit for name in dataset["input"].values.tolist()}
        console.print(sheet(dataset, units))
