r"""What Sphinx does for French pages: the page's language in its head, and spaces that do not break.

A page that exists in both languages tells browsers and search engines so (`hreflang`).
"""

import re
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from annotated.languages import language, other_half

NOT_FRENCH = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)

# The theme's own words, as far as it asks for them one by one.
THEME = {
    "On this page": "Sur cette page",
    "Next": "Page suivante",
    "Previous": "Page précédente",
    "Home": "Accueil",
    "Search": "Rechercher",
}


def tell_browser(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    """The page's `lang` and its other half, in its head; and the theme's words around a French page."""
    context["language"] = language(page)
    if language(page) == "fr":
        context["_"] = lambda words: THEME.get(words, words)
    other = other_half(page, app.env.found_docs)
    if other:
        address = escape(app.builder.get_relative_uri(page, other))
        link = f'\n    <link rel="alternate" hreflang="{language(other)}" href="{address}">'
        context["metatags"] = context.get("metatags", "") + link


class FrenchSpaces(SphinxTransform):
    """A French page's spaces before `: ; ! ?` and inside « » do not break; in code and formulas nothing changes."""

    default_priority = 210

    def apply(self, **kwargs: object) -> None:
        if language(self.env.docname) != "fr":
            return
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, NOT_FRENCH):
                spaced = re.sub(r"(?<=«) | (?=»)| (?=:)", "\N{NO-BREAK SPACE}", text)
                spaced = re.sub(r" (?=[;!?])", "\N{NARROW NO-BREAK SPACE}", spaced)
                text.parent.replace(text, nodes.Text(spaced))


def setup(app: Sphinx) -> None:
    app.add_transform(FrenchSpaces)
    app.connect("html-page-context", tell_browser)
