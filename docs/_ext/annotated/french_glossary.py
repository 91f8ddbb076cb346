r"""The French glossary: what `{term}` leads to on a French page.

Sphinx knows one glossary, in which no word may come twice, and many terms are the same in both languages. So this is
a directive of its own, with the English term as the key: `échantillonneur (sampler)`, or `latent` alone where both are
the same.
"""

import re

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from annotated.languages import french_terms, language
from annotated.links import internal_link


def anchor(english: str) -> str:
    return "terme-" + re.sub(r"\W+", "-", english.casefold())


class Glossary(SphinxDirective):
    """The entries as a list of definitions; each English term leads to its own definition."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        terms = french_terms("\n".join(self.content))
        self.env.metadata[self.env.docname]["glossaire"] = "yes"
        items = nodes.definition_list(classes=["simple", "glossary"])
        for english, (french, lines) in terms.items():
            term = nodes.term("", french, ids=[anchor(english)])
            if french != english:
                inside = nodes.inline("", english, classes=["xref", "std", "std-term"])
                about = {"refdomain": "std", "reftype": "term", "reftarget": english, "refwarn": True}
                link = addnodes.pending_xref("", inside, refdoc=self.env.docname, english=True, **about)
                term += [nodes.Text(" ("), nodes.emphasis("", "", link), nodes.Text(")")]
            definition = nodes.definition()
            self.state.nested_parse(StringList(lines), self.content_offset, definition)
            items += nodes.definition_list_item("", term, definition)
        return [items]


class LinkTerms(SphinxPostTransform):
    """On a French page, `{term}` leads to the French glossary, if there is one."""

    default_priority = 5  # before Sphinx resolves it

    def run(self, **kwargs: object) -> None:
        pages = [page for page, data in self.env.metadata.items() if "glossaire" in data]
        if language(self.env.docname) != "fr" or not pages:
            return
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") == "term" and not node.get("english"):
                inside = nodes.inline("", node.astext())
                node.replace_self(
                    internal_link(self.app, self.env.docname, pages[0], anchor(node["reftarget"]), inside)
                )


def setup(app: Sphinx) -> None:
    app.add_directive("glossaire", Glossary)
    app.add_post_transform(LinkTerms)
