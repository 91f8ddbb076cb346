r"""What a page may ask for: `chapters`, `contents`, `reading-order`, `papers`, `diagram`, `measured`,
`output`."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from annotated.languages import MADE_BY, language, teller
from annotated.links import internal_link
from annotated.names import Names
from annotated.papers import Paper
from ldm.chapters import contents

if TYPE_CHECKING:
    from docs.tiles import Tile


class Chapters(SphinxDirective):
    """The sidebar's table of contents: hidden trees, one for each chapter."""

    def run(self) -> list[nodes.Node]:
        names: Names = self.env.app.annotated_names
        trees: list[nodes.Node] = []
        for title, modules in names.chapters():
            pages = [names.modules[module].page for module in modules]
            short = [module.removeprefix("ldm.") for module in modules]
            tree = addnodes.toctree(
                "", parent=self.env.docname, entries=list(zip(short, pages)), includefiles=pages
            )
            tree.attributes |= {"caption": title, "rawcaption": title, "maxdepth": 1, "hidden": True}
            tree.attributes |= {"glob": None, "includehidden": False, "numbered": 0, "titlesonly": True}
            trees.append(tree)
        return trees


class Contents(SphinxDirective):
    """The table of contents, from `ldm/chapters.py`."""

    def run(self) -> list[nodes.Node]:
        page = nodes.container()
        up = "../" * self.env.docname.count("/")
        self.state.nested_parse(StringList(contents(up).splitlines()), self.content_offset, page)
        return list(page.children)


class ReadingOrder(SphinxDirective):
    """All modules with the first sentence of each, chapter by chapter."""

    def run(self) -> list[nodes.Node]:
        names: Names = self.env.app.annotated_names
        result: list[nodes.Node] = []
        for title, modules in names.chapters():
            items = nodes.bullet_list(classes=["reading-order"])
            for module in modules:
                text = nodes.paragraph("", "", nodes.literal("", module), nodes.Text(" "))
                sentence = names.modules[module].doc.rstrip(".:")
                content = nodes.inline(classes=["what"])
                inline, _ = self.state.inline_text(sentence, self.lineno)
                content += inline
                text += content
                items += nodes.list_item("", text)
            result += [nodes.rubric("", title), items]
        return result


class Papers(SphinxDirective):
    """The bibliography, in alphabetical order."""

    def run(self) -> list[nodes.Node]:
        papers: dict[str, Paper] = self.env.app.annotated_papers
        entries = nodes.bullet_list(classes=["papers"])
        for label in sorted(papers, key=str.casefold):
            paper = papers[label]
            authors = "; ".join(paper.authors).replace("; others", " et al.").rstrip(".")
            text = nodes.paragraph("", "", nodes.strong("", label), nodes.Text(f". {authors}. "))
            text += [nodes.emphasis("", paper.title), nodes.Text(f". {paper.venue}. ")]
            text += nodes.reference("", paper.url.removeprefix("https://"), refuri=paper.url)
            entries += nodes.list_item("", text, ids=[paper.key])
        return [entries]


class Diagram(SphinxDirective):
    """A drawing of `diagrams.py` by its name, with its argument after it; the content is the caption.

    Its labels are in the page's language.
    """

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True  # a prompt is an argument, too
    has_content = True

    def run(self) -> list[nodes.Node]:
        from annotated.diagrams import DIAGRAMS  # it imports torch, which few pages need

        name, *arguments = self.arguments
        if name not in DIAGRAMS:
            raise self.error(f"diagram {name!r}; expected one of {', '.join(DIAGRAMS)}")
        say = teller(language(self.env.docname))
        figure = nodes.figure(
            "", nodes.raw("", DIAGRAMS[name](say, *arguments), format="html"), classes=["diagram"]
        )
        words, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        figure += nodes.caption("", "", *words)
        return [figure, *messages]


class Measured(SphinxDirective):
    """What a function of `docs/answers.py` measures now, and below it a link to that function."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from docs import answers  # it imports torch, which few pages need

        [name] = self.arguments
        if not hasattr(answers, name):
            raise self.error(f"measurement {name!r}; docs/answers.py has none of that name")
        content = self.parse_text_to_nodes(getattr(answers, name)())
        line = nodes.paragraph("", "", nodes.Text("measured by "), classes=["checked"])
        line += internal_link(self.env.app, self.env.docname, "docs/answers", name, nodes.literal("", name))
        line += nodes.Text(" when this page was built")
        return [nodes.container("", *content, line, classes=["measured"])]


class Output(SphinxDirective):
    """The tiles of a function of `docs/outputs.py`, with a caption, and below them a link to that function.

    On a French page, only functions whose labels are names and symbols.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        from docs import outputs  # it imports torch, which few pages need

        [name] = self.arguments
        if not hasattr(outputs, name):
            raise self.error(f"output {name!r}; docs/outputs.py has none of that name")
        rows = "".join(
            f'<div class="tiles">{"".join(map(_tile, row))}</div>' for row in getattr(outputs, name)()
        )
        figure = nodes.figure("", nodes.raw("", rows, format="html"), classes=["output"])
        words, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        made = internal_link(self.env.app, self.env.docname, "docs/outputs", name, nodes.literal("", name))
        before, after = MADE_BY[language(self.env.docname)]
        figure += nodes.caption("", "", *words, nodes.Text(before), made, nodes.Text(after))
        return [figure, *messages]


def _tile(tile: Tile) -> str:
    """A picture as part of the page, with its words. Small ones are enlarged without being smoothed."""
    small = tile.image.width < 100
    file = io.BytesIO()
    tile.image.save(file, **({"format": "PNG"} if small else {"format": "WEBP", "quality": 82}))
    kind, data = "png" if small else "webp", base64.b64encode(file.getvalue()).decode()
    style = ' class="coarse"' if small else ""
    return (
        f'<div><img{style} src="data:image/{kind};base64,{data}" alt="{escape(tile.label)}" '
        f'width="{tile.image.width}" height="{tile.image.height}">'
        f"<b>{escape(tile.label)}</b><small>{escape(tile.small)}</small></div>"
    )


def setup(app: Sphinx) -> None:
    app.add_directive("chapters", Chapters)
    app.add_directive("contents", Contents)
    app.add_directive("reading-order", ReadingOrder)
    app.add_directive("papers", Papers)
    app.add_directive("diagram", Diagram)
    app.add_directive("measured", Measured)
    app.add_directive("output", Output)
