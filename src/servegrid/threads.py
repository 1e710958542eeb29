"""The crew of a single process: threads. Kernels and compressors do not hold Python's lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from servegrid.errors import InputError
from servegrid.evaluate import available_cores
from servegrid.job import Result_co, Task, Work
from servegrid.show import counted

WAITING = 2  # tasks for each thread that are handed out: one at work, one that waits


@dataclass(frozen=True)
class Threads:
    """A pool of threads."""

    threads: int
    memory: int | None = None
    retries: int = 0
    elsewhere: bool = False

    @classmethod
    def of(cls, threads: int | None = None) -> Threads:
        """So many threads; one for each core without a number."""
        if threads is not None and threads < 1:
            raise InputError(f"threads: got {threads}, expected 1 or more")
        return cls(threads or available_cores())

    @property
    def size(self) -> int:
        """Tasks at once."""
        return self.threads

    @property
    def title(self) -> str:
        """Who they are."""
        return counted(self.threads, "thread")

    def limited(self, threads: int) -> Threads:
        """So many threads at most."""
        return replace(self, threads=min(self.threads, threads))

    def get_ready(self, work: Work[Any]) -> None:
        """Compile the kernel."""
        work.prepare()

    def do(self, work: Work[Result_co], tasks: Iterable[Task]) -> Iterator[Result_co]:
        """Do all tasks; one that fails, or Ctrl-C, ends the others."""
        kept = threading.local()  # each thread fills its arrays again and again

        def do(task: Task) -> Result_co:
            return work.do(task, threading.current_thread().name, kept.__dict__)

        ahead = iter(tasks)
        with ThreadPoolExecutor(self.threads, "thread") as pool:
            try:
                running = {pool.submit(do, task) for task in islice(ahead, WAITING * self.threads)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {pool.submit(do, task) for task in islice(ahead, len(done))}
                    for future in done:
                        yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)
