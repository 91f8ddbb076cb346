r"""A module's page: Sphinx reads the `.py` file itself, so the page is the source of today.

The prose of each row goes through MyST like every other page (formulas, links and their warnings included, with the
true line number), and so do the notes of the module's companion. Imports and who uses whom are folded away: they are
there for looking up, not for reading.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from myst_parser.mdit_to_docutils.sphinx_ import SphinxRenderer
from myst_parser.parsers.mdit import create_md_parser
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.util import logging

from annotated.code import cell, code_lines
from annotated.companions import Annotated, Note, annotate, companion_file, mistakes_in, read_companion
from annotated.foot import folded, foot
from annotated.names import Module, Names
from annotated.rows import Row, body
from ldm.chapters import headings

logger = logging.getLogger(__name__)
# A column of notes holds about this many letters a line; its lines are higher than those of code.
LETTERS, HIGHER = 50, 1.25
# So many lines of code longer may prose be before it stands above the code, in its full width; and so many where a
# function only starts, and its code goes on below beside other notes.
ROOM, ROOM_AT_START = 14, 4
# So many lines without a word, such as a table of data, take the full width: no empty column stands beside them.
LONG = 40
# Inline code up to this many letters does not break: it fits into the column of notes.
SHORT = 32


class PythonParser(MystParser):
    """A `.py` file to a page of rows."""

    supported = ("annotated-python",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        env = document.settings.env
        names: Names = env.app.annotated_names
        module = names.on_page(env.docname)
        path = Path(document["source"])
        source = path.read_text(encoding="utf-8")
        beside = companion_file(names.root, module.name)
        env.note_dependency(str(beside))
        companion = read_companion(beside)

        parser = create_md_parser(env.myst_config, SphinxRenderer)
        parser.options["document"] = document
        parser.renderer.setup_render(parser.options, {})
        parser.renderer._render_initialise()
        prose = Prose(parser.renderer, path, beside)
        page = nodes.container(classes=["annotated"])
        title = companion.title if companion else title_of(module)
        document += nodes.section("", nodes.title("", title), page, ids=["module"], names=["module"])

        first, imports, rows = body(source)
        lines = code_lines(source, module, names)
        page += nodes.container("", path_line(module, source), classes=["module-head"])
        if companion:
            title, goals = "You will learn", [companion.goals]
        else:
            title, goals = "After this chapter you can", goal_of_chapter(module)
        if goals:
            box = prose.box([], notes=goals)
            page += nodes.container("", nodes.paragraph("", title), box, classes=["learn"])
        page += nodes.container("", prose.box([first]), classes=["module-head"])
        if imports:
            page += folded(f"Imports, lines {imports[0]} to {imports[-1]}", cell(imports, lines, source))

        notes = [*(companion.notes if companion else ()), *mistakes_in(module.path, source)]
        annotated, lost = annotate(rows, source, notes)
        for note in lost:
            message = f"{note.place!r} is neither a definition of {module.name} nor begins one line of it"
            logger.warning(message, location=f"{beside}:{note.line}", type="annotated", subtype="note")
        page += list(columns(annotated, prose, lines, source))
        page += foot(module, names)
        prose.renderer._render_finalise()

        env.metadata[env.docname]["hide-toc"] = "yes"
        # Links from other pages may name a definition: [..](../ldm/diffusion/ddim.py#ddim_step).
        anchors = {name: (None, name, name) for row in [first, *rows] for name in row.names}
        env.metadata[env.docname]["myst_slugs"] = anchors


@dataclass(frozen=True)
class Prose:
    """Markdown as nodes; warnings carry the true line number of the file that it stands in."""

    renderer: SphinxRenderer
    module: Path
    companion: Path

    def box(self, rows: Iterable[Row], notes: Iterable = ()) -> nodes.container:
        """What rows say, with the anchors of what they define, and then the notes."""
        box = nodes.container(classes=["prose"])
        for row in rows:
            box["ids"] += row.names
            for piece in row.prose:
                self.add(box, piece.prose or "", piece.start, self.module)
        for note in notes:
            aside = nodes.container(classes=[note.kind])
            self.add(aside, note.text, note.line, self.companion if note.kind == "note" else self.module)
            box += aside
        return box

    def add(self, box: nodes.container, text: str, line: int, file: Path) -> None:
        self.renderer.document["source"] = str(file)
        with self.renderer.current_node_context(box):
            self.renderer.nested_render_text(text, line - 1)
        self.renderer.document["source"] = str(self.module)
        for code in box.findall(nodes.literal):
            code["classes"] += ["short"] * (len(code.astext()) <= SHORT)


def columns(
    annotated: list[Annotated], prose: Prose, lines: list[str], source: str
) -> Iterator[nodes.container]:
    """The rows of a module, each with its prose and its code, and what stands above some of them."""
    for shown, after in zip(annotated, [*annotated[1:], None]):
        if shown.above:
            yield nodes.container("", prose.box([], notes=shown.above), classes=["band"])
        box = prose.box([shown.row], shown.beside)
        ends = after is None or bool(after.row.names)
        room = ROOM if ends or not shown.row.names else ROOM_AT_START
        for row in arranged(box, cell(shown.row.code, lines, source), height(shown) - room):
            row["classes"] += ["begins"] * bool(shown.row.names) + ["ends"] * ends
            yield row


def arranged(prose: nodes.container, code: nodes.Element | None, height: float) -> list[nodes.container]:
    """Prose and code side by side; below one another where the prose is much longer than the code."""
    if code is None and not len(prose):
        return []
    row = nodes.container("", prose, *([code] if code else []), classes=["row"])
    if code is None or height > len(code["lines"]):
        row["classes"].append("stacked")
    elif not len(prose):
        row["classes"] += ["silent"] + ["long"] * (len(code["lines"]) > LONG)
    return [row]


def height(shown: Annotated) -> float:
    """About how many lines of code a row's prose is as high as, in the column of notes."""
    total = 0.0
    for text in [*(piece.prose or "" for piece in shown.row.prose), *(note.text for note in shown.beside)]:
        for block in re.split(r"\n\s*\n", text):
            parts = re.split(r"\n(?=[-*\d])", block)
            total += 4 if "$$" in block else 0.6 + sum(1 + len(part) // LETTERS for part in parts)
    return total * HIGHER


def title_of(module: Module) -> str:
    """The docstring's first sentence up to its colon: a title in words. A module without one goes by its name."""
    words = re.split(r"[:;](?= )|\.$| \(", module.doc.strip(), maxsplit=1)[0]
    return re.sub("[`*]", "", words) or module.name


def goal_of_chapter(module: Module) -> list[Note]:
    """What one can do after the chapter that a module belongs to: a note, if it belongs to one."""
    return [Note("", f"{chapter.goal}.") for _, chapter in headings() if module.name in chapter.full_names]


def path_line(module: Module, source: str) -> nodes.paragraph:
    lines = nodes.Text(f" {len(source.splitlines())} lines")
    return nodes.paragraph("", "", nodes.literal("", module.path), lines, classes=["path"])


def setup(app: Sphinx) -> None:
    app.add_source_suffix(".py", "annotated-python")
    app.add_source_parser(PythonParser)
