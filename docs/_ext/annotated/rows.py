r"""A module's source as rows: what is prose goes left, what is code goes right, nothing is lost.

Prose is every docstring and every comment that has a line to itself. A row begins at a definition (with the comment
and the decorators above it) or at a comment, and ends where the next one begins; so a function's docstring stands
beside its signature and first lines, and a comment beside what it explains. Each line of the file belongs to exactly
one piece of one row: the pieces in order are the file again.

Python's standard library is all this needs; how a row looks is the business of `page.py`.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

# Comments that speak to tools, not to readers, stay with the code.
TOOL_COMMENTS = ("fmt:", "noqa", "type:", "ruff:", "mypy:", "!")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Piece:
    """Lines `start` to `stop - 1` of the file, counted from 1: prose (with its Markdown) or code (`prose` is None)."""

    start: int
    stop: int
    prose: str | None = None


@dataclass(frozen=True)
class Row:
    """Pieces in the order of the file, and the qualified names that are defined here."""

    pieces: tuple[Piece, ...]
    names: tuple[str, ...] = ()

    @property
    def prose(self) -> list[Piece]:
        return [piece for piece in self.pieces if piece.prose is not None]

    @property
    def code(self) -> list[int]:
        """The numbers of the lines of code."""
        return [n for piece in self.pieces if piece.prose is None for n in range(piece.start, piece.stop)]


def split_rows(source: str) -> list[Row]:
    """Cut a module into rows. Raises `SyntaxError` for what is not Python."""
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    prose = sorted([*_docstrings(tree, lines), *_comments(source, lines)], key=lambda piece: piece.start)
    comments = {piece.stop: piece for piece in prose if lines[piece.start - 1].lstrip().startswith("#")}

    starts = {1} | {piece.start for piece in comments.values()}
    names: dict[int, list[str]] = {}
    for name, node in definitions(tree):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        # A comment right above a definition belongs to it.
        first = comments[first].start if first in comments else first
        starts.add(first)
        names.setdefault(first, []).append(name)

    pieces = list(_with_code_between(prose, sorted(starts), len(lines) + 1))
    bounds = [*sorted(starts), len(lines) + 1]
    return [
        Row(tuple(p for p in pieces if start <= p.start < stop), tuple(names.get(start, ())))
        for start, stop in zip(bounds, bounds[1:])
    ]


def body(source: str) -> tuple[Row, list[int], list[Row]]:
    """A module's docstring (and what else its first row says), the lines of its imports, and all rows after them."""
    first, *rows = split_rows(source)
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.parse(source).body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node.lineno in first.code
    ]
    start, last = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    imports = [n for n in first.code if start <= n <= last]
    after = [n for n in first.code if n > last]
    if not any(source.splitlines()[n - 1].strip() for n in after):
        after = []
    return first, imports, [Row((Piece(after[0], after[-1] + 1),)), *rows] if after else rows


def definitions(
    tree: ast.Module,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """The functions and classes of a module and their methods, with qualified names (`VAE.encode`)."""
    for node in tree.body:
        if isinstance(node, DEFINITIONS):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from ((f"{node.name}.{n.name}", n) for n in node.body if isinstance(n, DEFINITIONS))


def _docstrings(tree: ast.Module, lines: list[str]) -> Iterator[Piece]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, *DEFINITIONS)) or ast.get_docstring(node, clean=False) is None:
            continue
        text = node.body[0]
        start, stop = text.lineno, (text.end_lineno or text.lineno) + 1
        before, after = lines[start - 1][: text.col_offset], lines[stop - 2][text.end_col_offset :]
        if not before.strip() and not after.strip():  # not on the line of its `def`
            yield Piece(start, stop, _undress(lines[start - 1 : stop - 1], margin=text.col_offset))


def _undress(lines: list[str], margin: int) -> str:
    """A docstring's lines without quotes and indentation; as many lines as before, so that numbers stay true."""
    text = "".join(lines).strip().lstrip("rR")
    quotes = 3 if text.startswith(('"""', "'''")) else 1
    first, *rest = text[quotes:-quotes].split("\n")
    return "\n".join([first.strip(), *(line[margin:].rstrip() if line.strip() else "" for line in rest)])


def _comments(source: str, lines: list[str]) -> Iterator[Piece]:
    """Blocks of comments that have their lines to themselves, at one indentation."""
    block: list[tuple[int, int]] = []  # (line, column)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lstrip("# ")
        if (
            token.type != tokenize.COMMENT
            or token.line[: token.start[1]].strip()
            or text.startswith(TOOL_COMMENTS)
        ):
            continue
        if block and token.start != (block[-1][0] + 1, block[-1][1]):
            yield _comment(block, lines)
            block = []
        block.append(token.start)
    if block:
        yield _comment(block, lines)


def _comment(block: list[tuple[int, int]], lines: list[str]) -> Piece:
    text = "\n".join(lines[n - 1][column:].lstrip("#").removeprefix(" ").rstrip() for n, column in block)
    if text.startswith("---"):  # a line drawn across the file, with a title in it
        text = f"**{text.strip('- ').capitalize()}**"
    return Piece(block[0][0], block[-1][0] + 1, text)


def _with_code_between(prose: list[Piece], starts: list[int], stop: int) -> Iterator[Piece]:
    """The prose and, as pieces too, the code around it; no piece reaches over the start of a row."""
    at = 1
    for piece in [*prose, Piece(stop, stop)]:
        cuts = [at, *(s for s in starts if at < s < piece.start), piece.start]
        yield from (Piece(a, b) for a, b in zip(cuts, cuts[1:]) if a < b)
        if piece.start < piece.stop:
            yield piece
        at = piece.stop
