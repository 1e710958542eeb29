"""Which crew does the work: threads, unless one of dask's clusters is asked for.

Importing dask.distributed takes half a second, which threads do not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servegrid.errors import InputError
from servegrid.job import Crew
from servegrid.threads import Threads


@contextmanager
def crew(
    threads: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
    slurm: str | Path | None = None,
) -> Iterator[Crew]:
    """The crew that one of these words names; InputError where more than one is given."""
    given = {"threads": threads, "workers": workers, "scheduler": scheduler, "cluster": cluster, "slurm": slurm}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} are given together, expected one of {', '.join(given)}")
    if named in ([], ["threads"]):
        yield Threads.of(threads)
        return
    from servegrid import batch
    from servegrid import cluster as dask

    if workers is not None:
        chosen = dask.processes(workers)
    elif scheduler is not None:
        chosen = dask.scheduler(scheduler)
    else:
        path = Path(str(cluster or slurm))
        chosen = batch.batch_jobs(batch.read_cluster_file(path, "slurm" if slurm else None))
    with chosen as team:
        yield team
