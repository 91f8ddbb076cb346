r"""Formulas become HTML while the site is built, by the copy of KaTeX that also gives the site its fonts.

KaTeX is JavaScript; `mini-racer` runs it without a browser or node. Whatever it does not know is a warning
with file and line, which `-W` makes an error: a formula cannot go wrong unseen.
"""

from functools import cache, lru_cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).parents[2] / "_static" / "katex"
logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def engine() -> MiniRacer:
    racer = MiniRacer()
    racer.eval((KATEX / "katex.min.js").read_text(encoding="utf-8"))
    return racer


@cache
def render(formula: str, display: bool) -> str:
    r"""LaTeX to HTML and, for screen readers, MathML. Raises `ValueError` for what KaTeX does not know."""
    # "html" extensions stay off, and what LaTeX would not accept is refused, not repaired.
    options = {"displayMode": display, "throwOnError": True, "strict": "error", "trust": False}
    try:
        return str(engine().call("katex.renderToString", formula, options))
    except JSEvalException as error:
        reason = str(error).replace("̲", "").partition("KaTeX parse error: ")[2].partition("\n")[0]
        raise ValueError(f"formula {formula!r}: {reason or error}") from error


def visit(translator: HTML5Translator, node: nodes.Element) -> None:
    display = isinstance(node, nodes.math_block)
    try:
        html = render(node.astext().strip(), display)
    except ValueError as error:
        logger.warning("%s", error, location=node, type="annotated", subtype="formula")
        html = ""
    tag = "div" if display else "span"
    translator.body.append(f'<{tag} class="math notranslate nohighlight">{html}</{tag}>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("katex-at-build", (visit, None), (visit, None))
    app.add_css_file("katex/katex.min.css")
