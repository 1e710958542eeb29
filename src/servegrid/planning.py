"""What a run will do, known before it starts: points, bytes, blocks under a memory budget."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from servegrid.blocks import Blocks, block_sizes, total_bytes
from servegrid.errors import InputError, shown
from servegrid.evaluate import Evaluator, prepare
from servegrid.job import Crew
from servegrid.parameters import Parameters, gather
from servegrid.show import counted, number
from servegrid.store import Root
from servegrid.sweepfile import Sweep
from servegrid.threads import Threads
from servegrid.units import UnitError, to_number

DEFAULT_MEMORY = 2 * 2**30
# What Python, the libraries and the compiler take, whatever is computed (measured: 290 MiB); with less than
# LEAST_MEMORY no budget can be kept.
BASE_MEMORY = 300 * 2**20
LEAST_MEMORY = 384 * 2**20
# Results of one region: its chunks compress well from 1 MiB on, and 64 MiB is large against the 10 ms that
# writing a region costs besides its bytes.
LARGEST_REGION = 64 * 2**20
SMALLEST_REGION = 2**20
SLOW_POINTS = 64  # of one region, where a point takes milliseconds: what a killed run loses
SHARES = 4  # blocks for each thread, where they are not too small: whoever is faster does more


@dataclass(frozen=True, repr=False)
class Plan:
    """What a run will do: known before it starts."""

    parameters: Parameters
    evaluator: Evaluator
    blocks: Blocks
    crew: Crew

    def __repr__(self) -> str:
        shape = " x ".join(f"{axis} {size:,}" for axis, size in self.parameters.sizes.items())
        return (
            f"Plan: {counted(self.points, 'point')} ({shape or 'no axes'}), "
            f"{number(self.stored_bytes, 'byte')} before compression, {counted(len(self.blocks), 'region')} "
            f"of at most {number(self.region_bytes, 'byte')}, {self.crew.title}"
        )

    @property
    def points(self) -> int:
        """Points of the whole grid."""
        return prod(self.parameters.sizes.values())

    @property
    def stored_bytes(self) -> int:
        """Bytes of all results before compression."""
        return total_bytes(self.evaluator.outputs.values(), self.parameters.sizes)

    @property
    def region_bytes(self) -> int:
        """Bytes of the results of one region."""
        return total_bytes(self.evaluator.outputs.values(), self.blocks.block)


def read_memory(memory: float | str) -> int:
    """A memory budget [byte], given as a number of bytes or as text such as "2 GiB"."""
    expected = f"expected {LEAST_MEMORY // 2**20} MiB or more, such as 2GiB"
    try:
        budget = to_number(memory, "byte") if isinstance(memory, str) else float(memory)
    except UnitError as error:
        raise InputError(f"memory: {error}, {expected}") from None
    if isinstance(memory, bool) or not LEAST_MEMORY <= budget < 2**63:
        raise InputError(f"memory: got {shown(memory)}, {expected}")
    return int(budget)


def make_plan(
    sweep: Sweep,
    memory: float | str = DEFAULT_MEMORY,
    crew: Crew | None = None,
    root: Root | None = None,
    parts: int = 1,
) -> Plan:
    """Cut the sweep into blocks whose results fit the memory budget [byte] of each process.

    `root`: of a store that exists, whose blocks are used. `parts`: how many crews share the work.
    """
    crew = crew or Threads.of()
    memory = min(read_memory(memory), crew.memory or 2**63)
    parameters = gather(sweep)
    evaluator = prepare(parameters)
    variables = evaluator.outputs.values()
    # Each thread holds its block twice, as numbers and compressed, and once more in pages that wait to be reused.
    room = (memory - BASE_MEMORY) // 3
    if root is None:
        share = total_bytes(variables, parameters.sizes) // (SHARES * crew.size * parts)
        fair = SLOW_POINTS * evaluator.point_bytes if evaluator.is_slow else max(SMALLEST_REGION, share)
        block = block_sizes(parameters.sizes, variables, min(LARGEST_REGION, fair, room // crew.threads))
    else:
        block = root.block(evaluator.outputs, parameters.sizes)
        needed = total_bytes(variables, block)
        if needed > room:
            least = ceil((BASE_MEMORY + 3 * needed) / 2**20)
            raise InputError(
                f"memory: got {number(memory, 'byte')}, expected {least} MiB or more: "
                f"the store is cut into blocks of {number(needed, 'byte')}"
            )
        crew = crew.limited(room // max(1, needed))
    blocks = Blocks(parameters.sizes, block)
    return Plan(parameters, evaluator, blocks, crew.limited(len(blocks)))
