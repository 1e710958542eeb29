"""What several commands share: arguments, options, the console."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

SWEEP = click.argument("sweep", type=click.Path(path_type=Path))
MEMORY = click.option(
    "--memory", default="2 GiB", show_default=True, help="Memory budget of each process, such as 1GiB."
)
THREADS = click.option("--threads", type=click.IntRange(1), help="Threads  [default: all cores]")
WHO = (
    THREADS,
    click.option("--workers", type=click.IntRange(1), help="Processes of this machine instead of threads."),
    click.option("--scheduler", metavar="ADDRESS", help="A dask scheduler instead, such as tcp://host:8786."),
    click.option("--cluster", type=click.Path(path_type=Path), help="Jobs of a batch system instead: a YAML file."),
    click.option("--slurm", type=click.Path(path_type=Path), help="The same, of SLURM."),
)


def CREW(command: Any) -> Any:  # noqa: N802  # a decorator like its neighbours
    """Who does the work."""
    for option in reversed(WHO):
        command = option(command)
    return command


CATALOG = click.option(
    "--catalog",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Your own models and accelerators: a YAML file, or a Hugging Face config.json.",
)


def open_console() -> Console:
    """The terminal."""
    from rich.console import Console

    # Where nobody looks at a terminal, nothing may be folded: a row is a line.
    console = Console()
    return console if console.is_terminal else Console(width=100_000)
