"""What several commands share: arguments, options, the console."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servegrid.errors import InputError

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


def read_pairs(option: str, texts: Iterable[str], example: str) -> dict[str, str]:
    """What is given as NAME=VALUE, each name once; InputError otherwise."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise InputError(f"{option}: got {text!r}, expected {example}")
        if name in found:
            raise InputError(f"{option}: {name} is given twice, expected it once")
        found[name] = value
    return found


def open_console() -> Console:
    """The terminal."""
    from rich.console import Console

    # Where nobody looks at a terminal, nothing may be folded: a row is a line.
    console = Console()
    return console if console.is_terminal else Console(width=100_000)
