r"""Build the notebooks: run NN_name.py from top to bottom in a fresh kernel, keep cells and outputs as NN_name.ipynb.

    python notebooks/build.py                         # all of them (make notebooks)
    python notebooks/build.py 03_noise.py             # some: make notebooks ARGS=03_noise.py
    python notebooks/build.py --prose 03_noise.py     # only the prose was changed: nothing runs, outputs are kept

The plain files are the source; nobody edits an .ipynb. Building one twice on one machine gives the same bytes: a
cell's id is a hash of its position and its text, nothing is dated, the kernel computes in one thread, and images are
stored once, as PNG of at most 256 colours, which takes a third of the space. A notebook that has a French half
(`NN_name.fr.md`, see `french.py`) is written in both languages.
"""

import argparse
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

from french import in_french
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
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
    fold_answers(notebook)
    return numbered(notebook)


def numbered(notebook: NotebookNode) -> NotebookNode:
    for place, cell in enumerate(notebook.cells):
        cell.id = hashlib.sha256(f"{place} {cell.source}".encode()).hexdigest()[:8]
    return notebook


def french_source(path: Path) -> Path:
    """Where the French prose of a notebook is, if it has any."""
    return path.with_suffix(".fr.md")


def read_french(path: Path, english: NotebookNode) -> NotebookNode:
    """A built notebook in French. Exits where its prose does not fit the code."""
    try:
        cells = in_french(english, french_source(path).read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"{french_source(path).name}: {error}")
    return numbered(NotebookNode(english | {"cells": cells}))


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


def keep_outputs(notebook: NotebookNode, built: NotebookNode) -> None:
    """Take the outputs of a notebook that has been built. Exits where its code was another."""
    new, old = ([cell for cell in n.cells if cell.cell_type == "code"] for n in (notebook, built))
    if [cell.source for cell in new] != [cell.source for cell in old]:
        sys.exit("the code was changed, too, so it has to run: leave out --prose")
    for cell, kept in zip(new, old):
        cell.outputs, cell.execution_count = kept.outputs, kept.execution_count


def build(path: Path, run: bool = True) -> Iterator[Path]:
    """Write the .ipynb beside the plain file, and the French one; without `run`, with the outputs that it has."""
    notebook, built = read_source(path), path.with_suffix(".ipynb")
    if run:
        execute(notebook)
    else:
        keep_outputs(notebook, nbformat.read(built, as_version=4))
    yield write(notebook, built)
    if french_source(path).exists():
        yield write(read_french(path, notebook), path.with_suffix(".fr.ipynb"))


def write(notebook: NotebookNode, path: Path) -> Path:
    """Write an .ipynb. Exits where it is larger than `LIMIT`."""
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > LIMIT:
        largest = ", ".join(
            f"{size:,} in cell {n}" for size, n in sorted(pictures(notebook), reverse=True)[:3]
        )
        sys.exit(
            f"{path.name}: {len(text.encode()):,} bytes, more than {LIMIT:,}; its largest pictures: {largest}"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Build the notebooks.")
    parser.add_argument("names", nargs="*", metavar="NN_name.py", help="which ones (default: all)")
    parser.add_argument("--prose", action="store_true", help="run nothing: keep the outputs")
    args = parser.parse_args(arguments)
    for path in [FOLDER / Path(name).name for name in args.names] or sources():
        for written in build(path, run=not args.prose):
            print(f"{written.name}: {written.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
