"""What the pictures share: colours, shapes, and the figure of a slide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from servegrid.errors import InputError

# Okabe and Ito 2008, Color Universal Design, https://jfly.uni-koeln.de/color/, without its yellow, which is lost on
# white. The order keeps neighbours apart in lightness, for grey printers.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", ">", "h")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++")
MOST_STYLES = len(PALETTE) * len(DASHES)  # lines that differ in colour or dashes
GREY = "#D9D9D9"
INK = "#595959"  # of what explains: notes, titles, hatches

SLIDE_SIZE = (10.0, 5.625)  # inches, 16:9; on a slide of 13.33 inches 13 points become 17
SLIDE: Any = {  # matplotlib's type lists all of its settings
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 14,
    "xtick.labelsize": 12.5,
    "ytick.labelsize": 12.5,
    "legend.fontsize": 12.5,
    "legend.title_fontsize": 12.5,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "hatch.linewidth": 0.8,
    "axes.axisbelow": True,
}


class Slide(Figure):
    """A figure that notebooks show without pyplot, which would keep every figure alive."""

    def __init__(self) -> None:
        super().__init__(figsize=SLIDE_SIZE, dpi=100, layout="constrained")

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


@contextmanager
def canvas(ax: Axes | None) -> Iterator[Axes]:
    """The axes to draw on: those given, in whatever style they are, or new ones on a slide."""
    if ax is not None:
        yield ax
        return
    with rc_context(SLIDE):
        ax = Slide().add_subplot()
        # Ticks are made when the figure is drawn, after this context: say now what they look like.
        ax.tick_params(axis="both", which="both", labelsize=SLIDE["xtick.labelsize"])
        ax.spines[["top", "right"]].set_visible(False)
        yield ax


def figure_of(ax: Axes) -> Figure:
    """The figure that axes are in, also where a part of the figure lies between."""
    figure: Any = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


@dataclass(frozen=True)
class Style:
    """How one of several things looks: no two are alike in colour and dashes, nor the first eleven in marker."""

    color: str
    marker: str
    dashes: str
    hatch: str


def styles(count: int, what: str) -> list[Style]:
    """A style for each of the labels of `what`; InputError where there are more than can be told apart."""
    if count > MOST_STYLES:
        raise InputError(
            f"{what} has {count:,} labels, expected {MOST_STYLES} at most, which is what can be told apart; "
            "select some of them"
        )
    return [
        Style(
            PALETTE[index % len(PALETTE)],
            MARKERS[index % len(MARKERS)],
            DASHES[index // len(PALETTE)],
            HATCHES[index % len(HATCHES)],
        )
        for index in range(count)
    ]


def ink_on(color: Any) -> str:
    """Black or white, whichever is read more easily on a colour (relative luminance, WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return "black" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"
