"""Tables of best points: what stands where, whatever the shape of the answer."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from servegrid.findings import MOST_COLUMNS, MOST_ROWS, tables
from servegrid.sheet import Sheet


def answer(itl: list[list[float]], direction: str = "minimize") -> xr.Dataset:
    """Best latencies [s] of models x page sizes, with a label and a count; NaN where there is none."""
    values = np.array(itl)
    exists = ~np.isnan(values)
    dims = ("model", "page_size")
    return xr.Dataset(
        {
            "itl": (dims, values, {"display_units": "s", "direction": direction}),
            "price": (dims, np.where(exists, 0.5, np.nan), {"display_units": "USD"}),
            "runs": (dims, exists.astype(int), {"display_units": "request"}),
            "fast": (dims, exists & (values < 0.002)),
            "found": (dims, exists),
        },
        coords={
            "model": [f"m{number}" for number in range(len(values))],
            "page_size": ("page_size", 2 ** np.arange(values.shape[1]), {"display_units": "token"}),
            "hardware": (dims, np.where(exists, "h100-sxm", "")),
        },
    )


def rows(sheet: Sheet) -> list[list[str]]:
    return [list(row) for row in sheet.rows]


def test_a_matrix_and_the_best_of_each_row() -> None:
    nan = float("nan")
    matrix, best = tables(answer([[0.003, nan, 0.001], [nan, nan, nan], [0.004, nan, nan]]), filtered=True)
    assert matrix.title == "Best itl, where the filter holds"
    # Neither the model nor the page size of which there is nothing.
    assert (list(matrix.columns), rows(matrix)) == (
        ["model \\ page_size", "1", "4"],
        [["m0", "0.003", "0.001"], ["m2", "0.004", "-"]],
    )
    assert best.title == "Configurations of the best itl of each model"
    assert list(best.columns) == ["model", "page_size", "hardware", "itl", "price (USD)", "runs", "fast"]
    assert rows(best) == [
        ["m0", "4", "h100-sxm", "1 ms", "0.5", "1", "yes"],
        ["m2", "1", "h100-sxm", "4 ms", "0.5", "1", "no"],
    ]
    assert set(best.right) == {"page_size", "itl", "price (USD)", "runs"}


@pytest.mark.parametrize(("direction", "page"), [("minimize", "2"), ("maximize", "1")])
def test_the_best_is_the_highest_or_the_lowest_and_of_equals_the_first(direction: str, page: str) -> None:
    _, best = tables(answer([[0.3, 0.1, 0.1, 0.3]], direction), filtered=False)
    assert rows(best)[0][1] == page


def test_the_shorter_axis_stands_across_where_not_both_are_short() -> None:
    wide, _ = tables(answer([[0.1] * (MOST_COLUMNS + 1)] * 2), filtered=False)
    assert wide.title == "Best itl"
    assert list(wide.columns) == ["page_size \\ model", "m0", "m1"]
    short, _ = tables(answer([[0.1] * MOST_COLUMNS] * 2), filtered=False)
    assert short.columns[0] == "model \\ page_size"


def test_one_group_is_a_row_each_and_no_matrix() -> None:
    (best,) = tables(answer([[0.1]] * (MOST_ROWS + 1)).isel(page_size=0), filtered=False)
    assert best.title == f"Configurations of the best itl of each model (the first {MOST_ROWS} of {MOST_ROWS + 1})"
    assert len(best.rows) == MOST_ROWS


def test_a_single_best_point_is_one_row() -> None:
    (best,) = tables(answer([[0.1]]).isel(model=0, page_size=0), filtered=False)
    assert best.title == "Configurations of the best itl"
    assert rows(best) == [["m0", "1", "h100-sxm", "100 ms", "0.5", "1", "no"]]
