r"""Below each displayed equation, which test evaluates it; below each equation of a test, where it stands.

On a page of `ldm/` or `docs/`, an equation that no test quotes and that `docs/equations.md` does not excuse is a
warning, which `-W` makes an error.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from annotated.equations import EXPLAINED, TESTS, Equations, Place, normal_form
from annotated.languages import language
from annotated.links import internal_link

logger = logging.getLogger(__name__)
WORDS = {
    "fr": ("vérifiée par ", "sans test\N{NO-BREAK SPACE}: ", "pourquoi"),
    "en": ("checked by ", "no test: ", "why"),
}


class CheckEquations(SphinxPostTransform):
    default_priority = 3  # before mentions become links, so that these are links already

    def run(self, **kwargs: object) -> None:
        equations: Equations = self.app.annotated_equations
        page, explained = self.env.docname, EXPLAINED.removesuffix(".md")
        checked, untested, why = WORDS[language(page)]
        for block in list(self.document.findall(nodes.math_block)):
            formula = normal_form(block.astext())
            if page.startswith(f"{TESTS}/") or page == explained:
                self.remark(block, "stands in ", equations.places.get(formula, []))
            elif formula in equations.tests:
                self.remark(block, checked, equations.tests[formula])
            elif formula in equations.reasons:
                self.remark(block, untested, [Place(explained, "", why, 0)])
            elif page.startswith(("ldm/", "docs/")):
                logger.warning(
                    "no test evaluates %r; quote it in a test of %s, or say in %s why it has none",
                    formula,
                    TESTS,
                    EXPLAINED,
                    location=block,
                    type="annotated",
                    subtype="equation",
                )

    def remark(self, block: nodes.math_block, words: str, places: list[Place]) -> None:
        line = nodes.paragraph("", "", nodes.Text(words), classes=["checked"])
        for i, place in enumerate(dict.fromkeys(places)):
            inside = (
                nodes.literal("", place.text)
                if "_" in place.text or "." in place.text
                else nodes.inline("", place.text)
            )
            line += [
                nodes.Text(", " if i else ""),
                internal_link(self.app, self.env.docname, place.page, place.anchor, inside),
            ]
        if places:
            block.parent.insert(block.parent.index(block) + 1, line)


def setup(app: Sphinx) -> None:
    app.add_post_transform(CheckEquations)
