"""Notebooks run in a clean kernel without a warning, are stored without outputs, and are what their pictures show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from notebooks.pictures import FOLDER, NOTEBOOKS, PICTURES, names_of, pictures_of, run

SIZE = (100, 56)  # pixels that pictures are compared in: other fonts and rounding do not show, other data do
ALIKE = 2.0  # of 255, mean difference of two pictures: those of two runs are 0.3 apart, two kinds of picture 7 or more
LARGEST = 100_000  # bytes of a picture

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def difference(one: Image.Image, other: Image.Image) -> float:
    """How far two pictures are apart: the mean over small pixels, of 255."""
    small = [np.asarray(picture.convert("RGB").resize(SIZE, Image.Resampling.BOX), float) for picture in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def tagged(path: Path) -> list[str]:
    return [name for cell in nbformat.read(path, as_version=4).cells for name in names_of(cell)]


@each_notebook
def test_a_notebook_runs_in_a_clean_kernel(path: Path) -> None:
    notebook = run(path)
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    for name, picture in pictures_of(notebook).items():
        assert difference(picture, Image.open(PICTURES / f"{name}.png")) < ALIKE, (
            f"python -m notebooks.pictures: {name}"
        )


def test_different_pictures_are_told_apart() -> None:
    pictures = [Image.open(path) for path in sorted(PICTURES.glob("*.png"))]
    apart = [difference(one, other) for one in pictures for other in pictures if one is not other]
    assert min(apart) > ALIKE


@each_notebook
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    nbformat.validate(notebook)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    assert 8 <= len(notebook["cells"]) <= 18
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_every_picture_has_a_cell_and_a_place_in_the_readme() -> None:
    names = [name for path in NOTEBOOKS for name in tagged(path)]
    files = sorted(PICTURES.glob("*.png"))
    assert sorted(names) == [path.stem for path in files]
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\(pictures/(.+?)\.png\)", readme)) == sorted(names)
    assert set(re.findall(r"\]\((\d.+?\.ipynb)\)", readme)) == {path.name for path in NOTEBOOKS}
    for path in files:
        assert path.stat().st_size < LARGEST


def test_links_lead_somewhere() -> None:
    for path in [FOLDER.parent / "README.md", FOLDER / "README.md", FOLDER / "data" / "README.md", *NOTEBOOKS]:
        for link in re.findall(r"\]\(([^)#]+?)\)", path.read_text(encoding="utf-8")):
            assert "://" in link or (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_trace_has_all_requests() -> None:
    lengths = pd.read_csv(FOLDER / "data" / "azure-2023-lengths.csv")
    assert not lengths.duplicated(["trace", "seq_len"]).any()
    assert lengths.groupby("trace").requests.sum().to_dict() == {"code": 8819, "conversation": 19366}
    tokens = (lengths.seq_len * lengths.requests).groupby(lengths.trace).sum()
    # Means of the published traces, prompt and answer: 2,048 + 28 and 1,155 + 211.
    assert (tokens / lengths.groupby("trace").requests.sum()).round().tolist() == [2076, 1366]
