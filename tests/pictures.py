"""What is in a picture: the words, the lines, the patches of a figure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import BboxBase


def axes_of(figure: Figure) -> Axes:
    """The axes with the data; colour bars come after them."""
    return figure.axes[0]


def data_of(line: Line2D) -> np.ndarray:
    """The places that a line goes through, of shape (places, 2)."""
    return np.asarray(line.get_xydata())


def legend_of(figure: Figure) -> list[str]:
    """The entries of all legends."""
    legends = [legend for ax in figure.axes if (legend := ax.get_legend())]
    return [text.get_text() for legend in [*legends, *figure.legends] for text in legend.get_texts()]


def words_of(figure: Figure) -> list[str]:
    """All words that are seen once the figure is drawn."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible()]


def outside(figure: Figure) -> list[str]:
    """Words that the edge of the figure cuts once it is drawn."""
    whole = figure.bbox.padded(1)
    return [text.get_text() for text in drawn_texts(figure) if not _holds(whole, text.get_window_extent())]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of words that lie upon each other once the figure is drawn."""
    texts = [text for text in drawn_texts(figure) if text.get_rotation() == 0]
    boxes = [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts]
    return [
        (one, other)
        for index, (one, box) in enumerate(boxes)
        for other, second in boxes[index + 1 :]
        if box.overlaps(second)
    ]


def drawn_texts(figure: Figure) -> list[Text]:
    """All texts of the figure, laid out, without the ticks beyond the ends of the axes."""
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]
    beyond = _beyond(figure)
    return [text for text in texts if id(text) not in beyond]


def _beyond(figure: Figure) -> set[int]:
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    ticks = [(tick, sorted(axis.get_view_interval())) for axis in axes for tick in axis.get_major_ticks()]
    gone = [tick for tick, (low, high) in ticks if not low <= tick.get_loc() <= high]
    return {id(label) for tick in gone for label in (tick.label1, tick.label2)}


def _holds(whole: BboxBase, part: BboxBase) -> bool:
    return whole.x0 <= part.x0 and part.x1 <= whole.x1 and whole.y0 <= part.y0 and part.y1 <= whole.y1
