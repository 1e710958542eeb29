"""`servegrid best|top|pareto|count|histogram|quantile GRID`: questions of a sweep, or of what a run has stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from servegrid.commands.options import CREW, open_console

if TYPE_CHECKING:
    import xarray as xr

MOST_ROWS = 40  # that a table shows; --csv and --json print all

_MAXIMIZE = click.option(
    "--maximize", "-M", multiple=True, metavar="EXPR", help="What is to be as high as can be, such as throughput."
)
_MINIMIZE = click.option("--minimize", "-m", multiple=True, metavar="EXPR", help="What is to be as low as can be.")
_OUTPUT = click.option(
    "--output", "outputs", multiple=True, metavar="NAME", help="What to show of a point; without it, all outputs."
)
_OF = click.option("--of", required=True, metavar="EXPR", help="The quantity.")
_ALL = (
    click.argument("grid"),
    click.option(
        "--where", metavar="EXPR", help="The filter, in place of the sweep's own: 'ttft <= 0.5 and itl <= 0.05'."
    ),
    click.option(
        "--per", multiple=True, metavar="AXIS", help="An answer for each label of this axis; may be repeated."
    ),
    click.option("--json", "form", flag_value="json", help="Print JSON."),
    click.option("--csv", "form", flag_value="csv", help="Print CSV."),
)


def _question(*options: Callable[[Any], Any]) -> Callable[[Any], click.Command]:
    """A command with the options that all questions have, and some of its own."""

    def declare(function: Any) -> click.Command:
        function = CREW(function)
        for option in reversed((_ALL[0], *options, *_ALL[1:])):
            function = option(function)
        return click.command()(function)

    return declare


@_question(_MAXIMIZE, _MINIMIZE, _OUTPUT)
def best(**words: Any) -> None:
    """Find the best configuration.

    GRID is a sweep file, whose points are computed and not kept, or a store.
    """
    _answer("best", words)


@_question(
    click.option("--count", "-k", "k", type=int, default=10, show_default=True, help="How many."),
    _MAXIMIZE,
    _MINIMIZE,
    _OUTPUT,
)
def top(**words: Any) -> None:
    """Find the best configurations, in order.

    GRID is a sweep file, whose points are computed and not kept, or a store.
    """
    _answer("top", words)


@_question(_MAXIMIZE, _MINIMIZE, _OUTPUT)
def pareto(**words: Any) -> None:
    """Find the frontier of two objectives or more.

    GRID is a sweep file, whose points are computed and not kept, or a store. On the frontier are the configurations
    that no other one beats in one objective without being beaten in another.
    """
    _answer("pareto", words)


@_question()
def count(**words: Any) -> None:
    """Count the points that fit, and that meet a filter.

    GRID is a sweep file, whose points are computed and not kept, or a store.
    """
    _answer("count", words)


@_question(
    _OF,
    click.option("--bins", type=int, default=20, show_default=True, help="How many."),
    click.option("--log", "spacing", flag_value="log", default="linear", help="Edges at equal ratios."),
)
def histogram(**words: Any) -> None:
    """Count the points by the value of a quantity.

    GRID is a sweep file, whose points are computed and not kept, or a store.
    """
    _answer("histogram", words)


@_question(
    _OF, click.option("-q", multiple=True, type=float, default=(0.1, 0.5, 0.9), show_default=True, help="Levels.")
)
def quantile(**words: Any) -> None:
    """Find exact quantiles of a quantity.

    GRID is a sweep file, whose points are computed and not kept, or a store.
    """
    _answer("quantile", words)


COMMANDS = (best, top, pareto, count, histogram, quantile)


def _answer(question: str, words: Mapping[str, Any]) -> None:
    """Ask, and print."""
    from servegrid import questions, report

    given = {name: _given(name, value) for name, value in words.items() if name not in ("grid", "form")}
    console = open_console()
    with report.progress_bar(console, "looking") as bar:
        answer = getattr(questions, question)(words["grid"], progress=bar, **given)
    if words["form"] == "json":
        click.echo(_as_json(answer))
    elif words["form"] == "csv":
        _print_csv(answer)
    else:
        report.print_answer(console, answer, MOST_ROWS)


def _given(name: str, value: Any) -> Any:
    """An option as the functions take it: several values as a list, none as nothing, axes also with commas."""
    if name == "per":
        return [axis.strip() for text in value for axis in text.split(",")]
    if isinstance(value, tuple):
        return list(value) if len(value) > 1 else next(iter(value), None)
    return value


def _as_json(answer: xr.Dataset) -> str:
    from servegrid.tables import Rows

    rows = Rows(answer)
    units = {name: rows.unit(name) for name in rows.names if rows.unit(name)}
    content = {"question": answer.attrs["question"], "units": units, "rows": list(rows.records())}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _print_csv(answer: xr.Dataset) -> None:
    import csv
    import sys

    from servegrid.tables import Rows

    rows = Rows(answer)
    writer = csv.DictWriter(sys.stdout, rows.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.records())
