r"""The part of the page that needs no model: its script and its style.

The script is one file, made of several: what every page of the lab draws with (`drawing.js`), what this one says
(`words.js`), what it consists of (`controls.js`), where the model comes from (`opening.js`), what happens when
(`playground.js`); then the pieces of the tour, with the mathematics that they do without the model. They share one
scope, which nothing else sees, and one model.
"""

from pathlib import Path

from ldm.files.read_write import atomic_path

HERE = Path(__file__).parent
MATHEMATICS = ("tokenizer.js", "noise.js", "sampling.js")  # the worker has them, too
PIECES = ("words", "piece", "noise", "tokens", "estimate", "guidance", "roundtrip")
SCRIPTS = (
    "../drawing.js",
    "words.js",
    "controls.js",
    "opening.js",
    *MATHEMATICS,
    *(f"pieces/{name}.js" for name in PIECES),
    "playground.js",
)


def read_sources(*names: str) -> str:
    """Scripts of this folder, one after the other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def write_page(folder: Path) -> None:
    """Write playground.js and playground.css into a folder. A page may load the script twice, and has it once."""
    once = '"use strict";\nif (window.PLAYGROUND?.mounted) return;\n'
    texts = {
        "playground.js": f"(() => {{\n{once}{read_sources(*SCRIPTS)}PLAYGROUND.mounted = true;\n}})();\n",
        "playground.css": read_sources("playground.css", "pieces/pieces.css"),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
