r"""The site's own Sphinx extension: the source of `ldm/` as pages, formulas rendered at build time, checked mentions.

`rows` splits a module, `names` knows what there is to link to, `papers` reads the bibliography, `equations` finds each
equation's test, `languages` holds the French labels, `companions` reads the notes of a module's page: these six need
nothing but Python. `page` shows a module, `code` colours its lines, `foot` says what to do with it, `sidebar` lists the
chapters; `links` makes the links, `maths` renders formulas, `checked` says below them who checks them, `directives` is
what a page can ask for, `playground` is the model in a page and `plane` the figure in two dimensions, `french_pages`
marks the French pages and `french_glossary` explains their words; `diagrams` and `networks` draw, with `drawing` (lines
and boxes) and `shapes` (measured on the real networks); `paper` takes the white from under pictures.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# The modules that Sphinx is told about, each by its own `setup`.
PARTS = (
    *("page", "code", "sidebar", "maths", "links", "checked", "directives"),
    *("french_glossary", "french_pages", "paper", "plane", "playground"),
)


def setup(app: Sphinx) -> dict[str, object]:
    from annotated.equations import read_equations
    from annotated.names import read_names
    from annotated.papers import read_papers

    root = Path(app.srcdir)
    app.annotated_names = read_names(root)
    app.annotated_papers = read_papers(root / "docs" / "papers.bib")
    app.annotated_equations = read_equations(root)
    for part in PARTS:
        import_module(f"annotated.{part}").setup(app)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
