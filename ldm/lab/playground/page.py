r"""The part of the page that needs no model: its script and its style.

The script is one file, made of several: what the page says (`words.js`), what it consists of (`controls.js`), where
runs come from (`opening.js`), and what happens when (`playground.js`). They share one scope, which nothing else sees.
"""

import shutil
from pathlib import Path

from ldm.files.read_write import atomic_path

HERE = Path(__file__).parent
SCRIPTS = ("words.js", "controls.js", "opening.js", "playground.js")


def read_sources(*names: str) -> str:
    """Scripts of this folder, one after the other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def write_page(folder: Path) -> None:
    """Write playground.js and playground.css into a folder."""
    with atomic_path(folder / "playground.js") as path:
        path.write_text(f"(() => {{\n{read_sources(*SCRIPTS)}}})();\n", encoding="utf-8")
    shutil.copyfile(HERE / "playground.css", folder / "playground.css")
