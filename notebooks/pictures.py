"""Run the notebooks, each in a clean kernel, and write the pictures that `README.md` shows.

`python -m notebooks.pictures` writes them all. A cell with the tag `picture-NAME` makes `pictures/NAME.png`;
`tests/test_notebooks.py` compares the two.
"""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
PICTURES = FOLDER / "pictures"
NOTEBOOKS = tuple(sorted(FOLDER.glob("*.ipynb")))
TAG = "picture-"
PATIENCE = 300  # seconds for one cell: on an idle machine the slowest takes five
COLORS = 256  # of a picture: half of the bytes, and nothing to be seen of it (64 leave bands in a heat map)


def run(path: Path) -> NotebookNode:
    """The notebook with its outputs, as a new kernel gives them in the notebook's own folder; the file is not touched.

    CellExecutionError where a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(path.parent)}})
    executed: NotebookNode = client.execute()
    return executed


def names_of(cell: NotebookNode) -> list[str]:
    """The names of the pictures that a cell makes: one, or none."""
    return [tag.removeprefix(TAG) for tag in cell.metadata.get("tags", ()) if tag.startswith(TAG)]


def pictures_of(notebook: NotebookNode) -> dict[str, Image.Image]:
    """Name -> picture, of a notebook that was run."""
    found = {}
    for cell in notebook.cells:
        for name in names_of(cell):
            (encoded,) = (output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
            found[name] = Image.open(io.BytesIO(b64decode(encoded))).convert("RGB")
    return found


def main() -> None:
    """Write the pictures of all notebooks."""
    PICTURES.mkdir(exist_ok=True)
    for path in NOTEBOOKS:
        for name, picture in pictures_of(run(path)).items():
            target = PICTURES / f"{name}.png"
            picture.quantize(COLORS, dither=Image.Dither.NONE).save(target, optimize=True)
            print(f"{target.relative_to(FOLDER.parent)}  {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
