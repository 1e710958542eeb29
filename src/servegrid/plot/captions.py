"""Words around a picture: legends that cover nothing, what was selected, what a band or a hatch means."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import xarray as xr
from matplotlib.axes import Axes

from servegrid.plot.scales import LABEL_WIDTH, exact, name_of, unit_of
from servegrid.plot.style import INK, Slide, figure_of

SELECTION_WIDTH = 84  # characters of what was selected in one line
NO_BREAK = "\N{NO-BREAK SPACE}"
TITLE_WIDTH = 26  # characters of the title of a legend in one line
NOTE_WIDTH = 112  # characters of a note in one line of a slide


def legend_beside(ax: Axes, title: str = "") -> None:
    """A legend at the right of our own axes, where it covers no data; in those of others, wherever there is room."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    place: dict[str, Any] = {"loc": "best"}
    if isinstance(ax.figure, Slide):
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "frameon": False}
    ax.legend(handles, labels, title=fill(title, TITLE_WIDTH) or None, alignment="left", **place)


def legend_below(ax: Axes, handles: Sequence[Any]) -> None:
    """A legend in one row below the picture."""
    if handles and isinstance(ax.figure, Slide):
        ax.figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), frameon=False)
    elif handles:
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=len(handles), frameon=False)
        ax.set_title(ax.get_title(loc="left"), loc="left", pad=30)  # above the legend


def note(ax: Axes, text: str) -> None:
    """A sentence below the picture and the name of its axis, such as what a band is."""
    figure = figure_of(ax)
    if isinstance(figure, Slide):
        figure.supxlabel(fill(text, NOTE_WIDTH), x=0.99, ha="right", fontsize=11, color=INK)
    else:
        ax.set_xlabel(f"{ax.get_xlabel()}\n{fill(text, LABEL_WIDTH['x'])}")


def say_what_was_selected(ax: Axes, ds: xr.Dataset | xr.DataArray) -> None:
    """Above the picture, the labels that no longer are axes: "model llama-3.1-8b · seq len 8,192"."""
    chosen = [
        f"{str(name).replace('_', ' ')} {exact(coordinate.item(), unit_of(coordinate))}".replace(" ", NO_BREAK)
        for name, coordinate in ds.coords.items()
        if coordinate.ndim == 0 and (coordinate.dtype.kind in "OUT" or coordinate.attrs.get("source") == "axis")
    ]
    if chosen:
        ax.set_title(fill(" · ".join(chosen), SELECTION_WIDTH).replace(NO_BREAK, " "), loc="left", color=INK)


def hue_title(ds: xr.Dataset, hue: str | None) -> str:
    """The title of a legend: what its entries are, with their unit."""
    return "" if hue is None else name_of(ds[hue])
