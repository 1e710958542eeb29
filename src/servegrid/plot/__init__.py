"""Pictures of sweeps and of the answers to questions about them; each function returns a matplotlib figure.

Colours can be told apart by people who see fewer of them, and whatever differs in colour differs in shape, too.
Axes are labelled with the long names and units that the dataset itself carries; the numbers on them are in the
size of the unit that the label names (ms, GiB, TB/s). Without `ax`, a figure of a slide's size is made.
"""

from servegrid.plot.breakdown import breakdown
from servegrid.plot.files import save
from servegrid.plot.frontier import frontier
from servegrid.plot.heatmap import heatmap
from servegrid.plot.lines import lines
from servegrid.plot.roofline import roofline
from servegrid.plot.scatter import scatter, scatters
from servegrid.plot.tornado import tornado

__all__ = ["breakdown", "frontier", "heatmap", "lines", "roofline", "save", "scatter", "scatters", "tornado"]
