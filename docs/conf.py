r"""The site's settings. Sphinx's source folder is the repository: so modules are pages, and links work on GitHub too.

`make docs` runs `sphinx -E -W -n -c docs . build/site`.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
sys.path.insert(0, str(ROOT))

from annotated.names import BESIDES  # noqa: E402

project = "ldm"
html_title = "ldm: latent diffusion you can read"
release = re.search(r'__version__ = "(.+)"', (ROOT / "ldm" / "__init__.py").read_text(encoding="utf-8"))[1]
copyright = "the ldm authors, MIT licence"

extensions = ["myst_nb", "annotated", "practice", "pieces"]
nb_execution_mode = "off"  # notebooks come with their outputs

# Pages live in four places; nothing else of the repository is looked at.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "ldm/**.py",
    "notebooks/*.ipynb",
    "weights/README.md",
    "weights/tiny/README.md",
]
include_patterns += list(BESIDES)
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "outputs",
    "runs",
    "docs/_*",
    "docs/annotated",  # each belongs to a module's page
    "weights/judge",
    "**/__pycache__",
]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
# Docstrings say <eos> and mean it: no HTML in Markdown. Notebooks fold solutions with it: their metadata allow it.
myst_disable_syntax = ["html_inline", "html_block"]
smartquotes = False  # quotes in prose are often code

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["design.css", "site.css", "annotated.css"]
html_js_files = [("formulas.js", {"defer": "defer"})]
html_additional_pages = {"index": "forward.html"}
templates_path = ["_templates"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "katex-at-build"
pygments_style = "annotated.colours.Light"
pygments_dark_style = "annotated.colours.Dark"
html_theme_options = {"navigation_with_keys": True}
