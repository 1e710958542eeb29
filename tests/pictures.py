"""What is in a picture: the words, the lines, the patches of a figure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text


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


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of words that lie upon each other once the figure is drawn."""
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts if text.get_rotation() == 0]
    return [
        (one, other)
        for index, (one, box) in enumerate(boxes)
        for other, second in boxes[index + 1 :]
        if box.overlaps(second)
    ]
