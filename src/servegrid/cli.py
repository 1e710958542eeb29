"""The command `servegrid`. Imports stand inside the commands, so that `--help` answers in a fraction of a second."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from servegrid.commands import ask
from servegrid.commands.compare import compare
from servegrid.commands.measured import calibrate, validate
from servegrid.commands.options import CATALOG, CREW, MEMORY, SWEEP, THREADS, open_console, read_pairs
from servegrid.commands.plot import plot
from servegrid.commands.sensitivity import sensitivity
from servegrid.errors import InputError, MachineError, Stopped


class _Commands(click.Group):
    """Turns the two kinds of failure into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (InputError, MachineError) as error:
            _fail(str(error), error.exit_code)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror or error}", MachineError.exit_code)
        except KeyboardInterrupt as error:
            stopped = error if isinstance(error, Stopped) else Stopped("stopped", *(error.args or (signal.SIGINT,)))
            _fail(str(stopped), stopped.exit_code)
        except MemoryError:
            _fail(
                "the machine has not enough memory; give a smaller --memory or fewer points",
                MachineError.exit_code,
            )


def _stop(signal_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt(signal_number)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"servegrid: {message}", err=True)
    sys.exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="servegrid")
def main() -> None:
    """Explore how large language models are served.

    A sweep file names the axes of a design space (models, accelerators, precisions, contexts, batch limits,
    page sizes, or any other input); servegrid evaluates all of it at once.
    """


main.add_command(plot)


@main.command()
@SWEEP
@click.option("--out", help="The Zarr store: a folder, or a URL such as s3://bucket/x.zarr  [default: <sweep>.zarr]")
@MEMORY
@CREW
@click.option("--part", metavar="I/N", help="Only a share of the work, such as 3/64; other runs do theirs.")
@click.option("--overwrite", is_flag=True, help="Throw a store of another sweep away.")
def run(sweep: Path, out: str | None, memory: str, part: str | None, overwrite: bool, **who: Any) -> None:
    """Evaluate a sweep into a store, and sum up.

    What the store has already is not computed again: the same command finishes a run that was stopped, and a sweep
    with more labels or outputs extends the store.
    """
    from servegrid import report
    from servegrid.crews import crew
    from servegrid.missing import Part
    from servegrid.runner import store_sweep
    from servegrid.summary import summarise
    from servegrid.sweepfile import read_sweep

    signal.signal(signal.SIGTERM, _stop)  # batch systems send it: say what is kept, as after Ctrl-C
    checked = read_sweep(sweep)
    share = None if part is None else Part.read(part)
    console = open_console()
    with report.progress_bar(console) as bar, crew(**who) as team:
        done = store_sweep(checked, out or f"{sweep.stem}.zarr", memory, team, overwrite, share, bar)
        summary = None if share else summarise(done, bar.then("summing up"))
    report.print_run(console, done, summary)


@main.command()
@click.argument("store")
@click.option("--sample", type=click.IntRange(0), default=16, show_default=True, help="Blocks to compute again.")
@click.option("--all", "everything", is_flag=True, help="Compute all blocks again.")
@click.option("--repair", is_flag=True, help="Mend what is missing, damaged or stale, and nothing else.")
@MEMORY
@CREW
def verify(store: str, sample: int, everything: bool, repair: bool, memory: str, **who: Any) -> None:
    """Check every chunk of a store, and compute a sample again.

    Exit code 1 where something is not as it should be.
    """
    from servegrid import report
    from servegrid.crews import crew
    from servegrid.verification import check_store

    with crew(**who) as team:
        verdict = check_store(store, sample, everything, repair, memory, team)
    report.print_verdict(open_console(), verdict)
    if not verdict.is_good:
        sys.exit(1)


@main.command()
@SWEEP
@MEMORY
@THREADS
def plan(sweep: Path, memory: str, threads: int | None) -> None:
    """Show points, shapes, bytes and chunks beforehand."""
    from servegrid import report
    from servegrid.planning import make_plan
    from servegrid.sweepfile import read_sweep
    from servegrid.threads import Threads

    report.print_plan(open_console(), make_plan(read_sweep(sweep), memory, Threads.of(threads)))


@main.command()
@SWEEP
@click.option("--kernel", is_flag=True, help="Print the generated source instead.")
def explain(sweep: Path, kernel: bool) -> None:
    """Show each equation with its axes; or the kernel."""
    from servegrid.api import explain as explain_sweep

    explanation = explain_sweep(sweep)
    if kernel:
        click.echo(explanation.kernel)
    else:
        open_console().print(explanation)


@main.command()
@click.option("--model", help="Name in the catalogue, or Hugging Face repository.")
@click.option("--hardware", help="Name in the catalogue.")
@click.option("--precision", help="Number format of weights and cache  [default: fp16]")
@click.option("--seq-len", help="Tokens of a sequence.")
@click.option("--max-batch-size", help="Limit on requests that run at once  [default: 1]")
@click.option("--page-size", help="Tokens in a page of the KV cache  [default: 16]")
@click.option("--efficiency", help="Share of the peak FLOP/s that prefill reaches  [default: 0.5]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other input, such as hbm_bandwidth='4 TB/s'.",
)
@click.option("--solver", default="continuous_batching", show_default=True)
@CATALOG
def solve(settings: tuple[str, ...], solver: str, catalog: tuple[Path, ...], **options: str | None) -> None:
    """Solve one point, step by step."""
    from servegrid.point import Walkthrough
    from servegrid.sweepfile import make_sweep

    values = {name: value for name, value in options.items() if value is not None}
    for name, value in read_pairs("--set", settings, "NAME=VALUE such as hbm_bandwidth='4 TB/s'").items():
        if name in values:
            raise InputError(f"--set: {name} is given twice, expected it once")
        values[name] = value
    values.setdefault("precision", "fp16")
    sweep = make_sweep({"solver": solver, "values": values, "catalog": list(catalog)})
    open_console().print(Walkthrough.of(sweep))


main.add_command(compare)
main.add_command(sensitivity)
main.add_command(validate)
main.add_command(calibrate)
for question in ask.COMMANDS:
    main.add_command(question)


@main.group()
def catalog() -> None:
    """Models, accelerators, engines and more, with sources."""


_KINDS = ("models", "accelerators", "precisions", "engines", "links", "traces", "schedulers", "lengths")
KIND = click.argument("kind", type=click.Choice(_KINDS), required=False, metavar="[KIND]")


@catalog.command("list")
@KIND
@CATALOG
def list_entries(kind: str | None, catalog: tuple[Path, ...]) -> None:
    """List what the catalogue holds.

    KIND: models, accelerators, precisions, engines, links, traces, schedulers, lengths.
    """
    _show_entries("", kind, catalog)


@catalog.command("search")
@click.argument("text")
@KIND
@CATALOG
def search_entries(text: str, kind: str | None, catalog: tuple[Path, ...]) -> None:
    """List the entries whose names or titles contain TEXT.

    KIND: models, accelerators, precisions, engines, links, traces, schedulers, lengths.
    """
    _show_entries(text, kind, catalog)


@catalog.command("show")
@click.argument("name")
@CATALOG
def show_entry(name: str, catalog: tuple[Path, ...]) -> None:
    """Show all facts of one entry, with their sources."""
    from servegrid import entries
    from servegrid.catalog import Catalog

    entries.print_entry(open_console(), Catalog.default().extended(*catalog), name)


def _show_entries(text: str, kind: str | None, paths: tuple[Path, ...]) -> None:
    from servegrid import entries
    from servegrid.catalog import Catalog

    entries.print_entries(open_console(), Catalog.default().extended(*paths), text, kind)
