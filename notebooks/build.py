r"""Build the notebooks: run NN_name.py from top to bottom in a fresh kernel, keep cells and outputs as NN_name.ipynb.

    python notebooks/build.py                 # all of them (make notebooks)
    python notebooks/build.py 03_noise.py     # some: make notebooks ARGS=03_noise.py

The plain files are the source; nobody edits an .ipynb. Building one twice on one machine gives the same bytes: a
cell's id is a hash of its place and its text, nothing is dated, the kernel computes in one thread, and pictures are
stored one way only, as PNG of at most 256 colours, for which they need a third of the room.
"""

import base64
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from ldm.files.read_write import atomic_path
from predictions import fold_answers

FOLDER = Path(__file__).resolve().parent
LIMIT = 300_000  # bytes; GitHub shows no large notebook, and a clone should stay small
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
    "myst": {"disable_syntax": []},  # the site: <details> in a notebook is meant as HTML
}


def sources() -> list[Path]:
    """The notebooks' plain files, in reading order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def read_source(path: Path) -> NotebookNode:
    """The cells of a plain file as a notebook without outputs, with ids and metadata that do not change."""
    notebook = jupytext.read(path)
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # since 4.5 cells have ids
    notebook.metadata = NotebookNode(METADATA)
    for place, cell in enumerate(notebook.cells):
        cell.id = hashlib.sha256(f"{place} {cell.source}".encode()).hexdigest()[:8]
        cell.metadata = NotebookNode()
    fold_answers(notebook)
    return notebook


def solutions(notebook: NotebookNode) -> list[str]:
    """The code of the folded solutions, in order: all blocks of one solution together."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details>.*?</details>", prose, flags=re.DOTALL)
    blocks = [
        "\n".join(re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE)) for part in folded
    ]
    return [block for block in blocks if block]


def execute(notebook: NotebookNode) -> None:
    """Run all cells in the folder of the notebooks. Raises nbclient's `CellExecutionError` where one fails."""
    python_path = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(python_path)}
    client = NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=600,
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute()
    notebook.metadata = NotebookNode(METADATA)  # the kernel added its version
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", []):
            tidy(output)
    fold_answers(notebook)


def tidy(output: NotebookNode) -> None:
    """One picture once: Pillow offers a JPEG beside the PNG, and a text that names the object."""
    if "data" in output and "image/png" in output.data:
        png = smaller(base64.b64decode(output.data["image/png"]))
        output.data = NotebookNode({"image/png": base64.b64encode(png).decode()})
        output.metadata = NotebookNode()


def smaller(png: bytes) -> bytes:
    """The same picture in at most 256 colours of its own."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


def pictures(notebook: NotebookNode) -> Iterator[tuple[int, int]]:
    """The length of each picture in the file, and the number of its cell."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            yield len(output.get("data", {}).get("image/png", "")), number


def build(path: Path) -> int:
    """Write the .ipynb beside the plain file; returns its size in bytes. Exits where that is above `LIMIT`."""
    notebook = read_source(path)
    execute(notebook)
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > LIMIT:
        largest = ", ".join(
            f"{size:,} in cell {n}" for size, n in sorted(pictures(notebook), reverse=True)[:3]
        )
        sys.exit(
            f"{path.name}: {len(text.encode()):,} bytes, more than {LIMIT:,}; its largest pictures: {largest}"
        )
    with atomic_path(path.with_suffix(".ipynb")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(text.encode())


def main(names: Sequence[str]) -> None:
    for path in [FOLDER / Path(name).name for name in names] or sources():
        print(f"{path.with_suffix('.ipynb').name}: {build(path):,} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
