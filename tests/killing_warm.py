"""What the server of `killing` imports and does once, so that the runs that it forks need not.

Nothing here starts a thread: none would be alive in a forked process.
"""

import multiprocessing.synchronize  # noqa: F401  # blosc has a lock

import killing
import numba

import servegrid.crews
import servegrid.report  # noqa: F401  # the command imports them when it is used
from servegrid.planning import make_plan
from servegrid.sweepfile import make_sweep

make_plan(make_sweep(killing.SWEEP))  # reads the catalogue
numba.njit("float64(float64)")(lambda x: x)  # fills numba's own tables
