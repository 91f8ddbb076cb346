r"""A module's page: Sphinx reads the `.py` file itself, so the page is the source of today.

The prose of each row goes through MyST like every other page (formulas, links and their warnings included, with the
true line number); the code is coloured once for the whole file and then cut into lines, each with its number
and an anchor.
"""

import ast
import html
import re
from pathlib import Path

from docutils import nodes
from myst_parser.mdit_to_docutils.sphinx_ import SphinxRenderer
from myst_parser.parsers.mdit import create_md_parser
from myst_parser.parsers.sphinx_ import MystParser
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Token
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

from annotated.names import Module, Names
from annotated.rows import Row, split_rows
from ldm.lab.exercises.exercise import exercises_in
from tests.components import component_files, count_tests, shortest


class code_cell(nodes.General, nodes.Element):
    """The code of a row. Its `html` is ready; its text is there for the search index only."""


class PythonParser(MystParser):
    """A `.py` file to a page of rows."""

    supported = ("annotated-python",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        env = document.settings.env
        names: Names = env.app.annotated_names
        module = names.on_page(env.docname)
        source = Path(document["source"]).read_text(encoding="utf-8")

        parser = create_md_parser(env.myst_config, SphinxRenderer)
        parser.options["document"] = document
        renderer = parser.renderer
        renderer.setup_render(parser.options, {})
        renderer._render_initialise()
        page = nodes.container(classes=["annotated"])
        document += nodes.section("", nodes.title("", module.name), page, ids=["module"], names=["module"])

        lines, rows = code_lines(source, module, names), split_rows(source)
        # The module's docstring and what belongs to it stand above the two columns.
        page += nodes.container(
            "", render_prose(rows[0], renderer), about(module, names), classes=["module-head"]
        )
        for row in rows:
            shown = nodes.container(classes=["row"])
            if row is not rows[0]:
                shown += render_prose(row, renderer)
            if any(source.splitlines()[n - 1].strip() for n in row.code):
                shown += cell(row, lines, source)
            if len(shown):
                page += shown
        renderer._render_finalise()

        env.metadata[env.docname]["hide-toc"] = "yes"
        # Links from other pages may name a definition: [..](../ldm/diffusion/ddim.py#ddim_step).
        anchors = {name: (None, name, name) for row in rows for name in row.names}
        env.metadata[env.docname]["myst_slugs"] = anchors


def render_prose(row: Row, renderer: SphinxRenderer) -> nodes.container:
    """What a row says, with the anchors of what it defines; warnings carry the file's own line numbers."""
    prose = nodes.container(classes=["prose"], ids=list(row.names))
    for piece in row.prose:
        with renderer.current_node_context(prose):
            renderer.nested_render_text(piece.prose or "", piece.start - 1)
    return prose


def about(module: Module, names: Names) -> nodes.container:
    """Small print under a module's docstring: how to test it, where to try it, what it stands on, who uses it."""
    facts = {
        **tests_of(module, names.root),
        "Write it yourself": [
            f"ldm exercise start {exercise.name}" for exercise in exercises_in(module.name)
        ],
        "Step through it": names.notebooks.get(module.name, []),
        "Stands on": module.uses,
        "Used by": names.users.get(module.name, []),
    }
    box = nodes.container(classes=["about-module"])
    for title, mentions in facts.items():
        line = nodes.paragraph("", "", nodes.Text(f"{title}: "))
        for i, mention in enumerate(mentions):  # `links.py` makes links of those that are modules
            line += [nodes.Text(", " if i else ""), nodes.literal("", mention)]
        if mentions:
            box += line
    return box


def tests_of(module: Module, root: Path) -> dict[str, list[str]]:
    """What to type for the tests of a module, or of a folder, and how many there are."""
    if not (root / "tests").is_dir():
        return {}
    if module.path.startswith("tests/"):  # it is a file of tests itself
        return {f"Its tests ({count_tests(root / module.path)})": [f"make test ARGS={module.path}"]}
    files = component_files(root)
    folder, _, file = module.path.replace("ldm/", "tests/", 1).rpartition("/")
    mine = [f for f in files if str(f) == f"{folder}/test_{file}"]
    name = shortest(mine[0], files) if mine else ""
    if file == "__init__.py" and folder != "tests":
        mine, name = [f for f in files if str(f.parent) == folder], module.name.rpartition(".")[2]
    count = sum(count_tests(root / f) for f in mine)
    return (
        {f"Its tests ({count})": [f"make test C={name}", *(map(str, mine[:1] if len(mine) == 1 else []))]}
        if mine
        else {}
    )


def cell(row: Row, lines: list[str], source: str) -> code_cell:
    text = "".join(source.splitlines(keepends=True)[n - 1] for n in row.code)
    node = code_cell("", nodes.Text(text))
    node["lines"] = [(n, lines[n - 1]) for n in row.code]
    return node


def visit_cell(translator: HTML5Translator, node: code_cell) -> None:
    page = translator.builder.current_docname
    here = translator.builder.get_target_uri(page)

    def shown(number: int, line: str) -> str:
        line = re.sub(
            r'(?<=href=")page:(.*?):',
            lambda m: relative_uri(here, translator.builder.get_target_uri(m[1])),
            line,
        )
        number_link = f'<a class="ln" href="#L{number}" data-n="{number}" aria-label="line {number}"></a>'
        indent = len(line) - len(line.lstrip(" "))
        return f'<span class="line" id="L{number}" style="--i:{indent}">{number_link}{line}\n</span>'

    body = "".join(shown(number, line) for number, line in node["lines"])
    translator.body.append(f'<div class="code highlight"><pre tabindex="0">{body}</pre></div>\n')
    raise nodes.SkipNode


def code_lines(source: str, module: Module, names: Names) -> list[str]:
    """Each line as coloured HTML; on import lines, names of ours are links (`page:NAME:` stands for the address)."""
    links = _import_links(source, names, module)
    lines, number = [""], 1
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        for i, part in enumerate(text.split("\n")):
            if i:
                lines.append("")
                number += 1
            if part:
                lines[-1] += _span(kind, part, links.get((number, part)))
    return lines


def _span(kind: object, text: str, link: tuple[str, str] | None) -> str:
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    style, text = STANDARD_TYPES[kind], html.escape(text, quote=False)
    if link:
        page, name = link
        text = f'<a href="page:{page}:{"#" + name if name else ""}">{text}</a>'
    return f'<span class="{style}">{text}</span>' if style and kind is not Token.Text.Whitespace else text


def _import_links(source: str, names: Names, module: Module) -> dict[tuple[int, str], tuple[str, str]]:
    """(line, text) of what `from ldm... import ...` mentions -> (page, anchor)."""
    links = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or (node.module or "") not in names.modules:
            continue
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            links[number, str(node.module)] = (names.modules[str(node.module)].page, "")
            for alias in node.names:
                found = names.find(f"{node.module}.{alias.name}", module)
                if found:
                    links[number, alias.name] = found
    return links


def setup(app: Sphinx) -> None:
    app.add_source_suffix(".py", "annotated-python")
    app.add_source_parser(PythonParser)
    app.add_node(code_cell, html=(visit_cell, None))
