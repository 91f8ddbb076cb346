r"""What Sphinx does for French pages: the page's language in its head, and spaces that do not break.

A page that exists in both languages tells browsers and search engines so (`hreflang`).
"""

import re
from html import escape
from pathlib import Path

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
# Those that it writes without asking.
WRITTEN = {
    "Skip to content": "Aller au contenu",
    "Back to top": "Haut de la page",
    "Toggle Light / Dark / Auto color theme": "Changer de thème\N{NO-BREAK SPACE}: clair, sombre ou automatique",
    "Toggle site navigation sidebar": "Afficher ou masquer le menu du site",
    "Toggle table of contents sidebar": "Afficher ou masquer le sommaire",
    "Link to this heading": "Lien vers ce titre",
    "Link to this image": "Lien vers cette image",
    "Contents": "Sommaire",
    "Expand": "Déplier",
    "Light mode": "Thème clair",
    "Dark mode": "Thème sombre",
    "Auto light/dark, in light mode": "Thème automatique, clair en ce moment",
    "Auto light/dark, in dark mode": "Thème automatique, sombre en ce moment",
}
SITE = "ldm\N{NO-BREAK SPACE}: la diffusion latente, à lire"


def tell_browser(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    """The page's `lang` and its other half, in its head; and the theme's words around a French page."""
    context["language"] = language(page)
    if language(page) == "fr":
        context["_"] = lambda words: THEME.get(words, words)
        context["docstitle"] = SITE
    other = other_half(page, app.env.found_docs)
    if other:
        address = escape(app.builder.get_relative_uri(page, other))
        link = f'\n    <link rel="alternate" hreflang="{language(other)}" href="{address}">'
        context["metatags"] = context.get("metatags", "") + link


def translate_theme(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    for page in app.env.found_docs:
        file = Path(app.builder.get_outfilename(page))
        if language(page) == "fr" and file.is_file():
            text = file.read_text(encoding="utf-8")
            for english, french in WRITTEN.items():
                text = text.replace(f">{english}<", f">{french}<").replace(f'"{english}"', f'"{french}"')
            file.write_text(text, encoding="utf-8")


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
    app.connect("build-finished", translate_theme)
