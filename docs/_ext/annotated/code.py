r"""A module's code as HTML: coloured once for the whole file, then cut into lines, each with a number and an anchor."""

import ast
import html
import re

from docutils import nodes
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Token
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

from annotated.names import Module, Names


class code_cell(nodes.General, nodes.Element):
    """The code of a row. Its `html` is ready; its text is there for the search index only."""


def cell(numbers: list[int], lines: list[str], source: str) -> code_cell | None:
    """These lines of the file, without empty ones at the beginning and the end; None if there is nothing else."""
    written = source.splitlines(keepends=True)
    filled = [n for n in numbers if written[n - 1].strip()]
    if not filled:
        return None
    shown = [n for n in numbers if filled[0] <= n <= filled[-1]]
    node = code_cell("", nodes.Text("".join(written[n - 1] for n in shown)))
    node["lines"] = [(n, lines[n - 1]) for n in shown]
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
    app.add_node(code_cell, html=(visit_cell, None))
