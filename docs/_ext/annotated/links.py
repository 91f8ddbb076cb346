r"""Mentions in prose become links: names of ours in backticks, and papers by their authors and year."""

from collections.abc import Iterator

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from annotated.code import code_cell
from annotated.names import Names
from annotated.papers import BIBLIOGRAPHY, Paper, find_citations

logger = logging.getLogger(__name__)
# What is a link already, or is no prose.
CLOSED = (
    nodes.reference,
    nodes.title,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    code_cell,
)
CLOSED += (addnodes.pending_xref, addnodes.download_reference)


def internal_link(app: Sphinx, here: str, page: str, anchor: str, inside: nodes.Element) -> nodes.reference:
    """A link from the page `here` to another, or to an anchor on it."""
    uri = app.builder.get_relative_uri(here, page) + (f"#{anchor}" if anchor else "")
    return nodes.reference("", "", inside, internal=True, refuri=uri)


class LinkMentions(SphinxPostTransform):
    default_priority = 4  # before Sphinx resolves its own references

    def run(self, **kwargs: object) -> None:
        names: Names = self.app.annotated_names
        papers: dict[str, Paper] = self.app.annotated_papers
        module = names.on_page(self.env.docname)
        for node in list(self.open_nodes(self.document)):
            if isinstance(node, nodes.literal):
                found = names.find(node.astext(), module)
                if found:
                    node.replace_self(self.link(*found, node.deepcopy()))
                elif names.is_broken(node.astext()):
                    self.warn(node, "reference", f"{node.astext()!r} names nothing that is there")
            elif isinstance(node, nodes.TextElement) and self.env.docname != BIBLIOGRAPHY:
                self.link_citations(node, papers)

    def open_nodes(self, node: nodes.Node) -> Iterator[nodes.Element]:
        for child in node.children:
            if isinstance(child, nodes.Element) and not isinstance(child, CLOSED):
                yield child
                if not isinstance(child, nodes.literal):
                    yield from self.open_nodes(child)

    def link_citations(self, node: nodes.Element, papers: dict[str, Paper]) -> None:
        children: list[nodes.Node] = []
        for child in node.children:  # the lines of a paragraph are neighbouring texts: join them first
            if children and isinstance(child, nodes.Text) and isinstance(children[-1], nodes.Text):
                children[-1] = nodes.Text(children[-1] + child)
            else:
                children.append(child)
        node.children = []
        for child in children:
            node += list(self.cite(child, papers, node)) if isinstance(child, nodes.Text) else [child]

    def cite(self, text: nodes.Text, papers: dict[str, Paper], where: nodes.Element) -> Iterator[nodes.Node]:
        at = 0
        for match, label in find_citations(str(text)):
            paper = papers.get(label)
            if paper is None:
                self.warn(where, "citation", f"{' '.join(match.group().split())!r} is not in papers.bib")
                continue
            yield nodes.Text(text[at : match.start()])
            yield self.link(
                BIBLIOGRAPHY, paper.key, nodes.inline("", match.group(), classes=["citation"]), paper.title
            )
            at = match.end()
        yield nodes.Text(text[at:])

    def link(self, page: str, anchor: str, inside: nodes.Element, title: str = "") -> nodes.reference:
        link = internal_link(self.app, self.env.docname, page, anchor, inside)
        if title:
            link["reftitle"] = title
        return link

    def warn(self, node: nodes.Element, kind: str, message: str) -> None:
        while node.line is None and node.parent is not None:
            node = node.parent
        logger.warning("%s", message, location=node, type="annotated", subtype=kind)


def setup(app: Sphinx) -> None:
    app.add_post_transform(LinkMentions)
