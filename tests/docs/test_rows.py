r"""A module is cut into rows without losing a line."""

import io
import tokenize
from pathlib import Path

import pytest

from annotated.rows import Piece, split_rows

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = sorted((REPOSITORY / "ldm").rglob("*.py"))

EXAMPLE = '''\
r"""Title.

    indented
"""

import math

# Why it is two,
# in two lines.
TWO = 2  # beside code


@cache
def double(x):
    r"""Twice $x$."""
    # times two
    return TWO * x


# noqa: E731
half = lambda x: x / TWO
'''


def test_an_example_is_cut_as_by_hand():
    rows = split_rows(EXAMPLE)
    assert [row.pieces for row in rows] == [
        (Piece(1, 5, "Title.\n\n    indented\n"), Piece(5, 8)),
        (Piece(8, 10, "Why it is two,\nin two lines."), Piece(10, 13)),
        (Piece(13, 15), Piece(15, 16, "Twice $x$.")),
        (Piece(16, 17, "times two"), Piece(17, 22)),
    ]
    assert [row.names for row in rows] == [(), (), ("double",), ()]


@pytest.mark.parametrize("file", MODULES, ids=lambda f: f.relative_to(REPOSITORY).as_posix())
def test_the_pieces_in_order_are_the_file_and_prose_is_what_comments_and_docstrings_say(file):
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    pieces = [piece for row in split_rows(source) for piece in row.pieces]
    assert "".join("".join(lines[piece.start - 1 : piece.stop - 1]) for piece in pieces) == source
    for piece in pieces:
        if piece.prose is not None and not piece.prose.startswith("**"):  # a drawn line lost its dashes
            source_lines = lines[piece.start - 1 : piece.stop - 1]
            assert len(piece.prose.split("\n")) == len(source_lines)
            assert all(shown.strip() in line for shown, line in zip(piece.prose.split("\n"), source_lines))


def test_no_comment_that_has_a_line_to_itself_stays_among_the_code():
    for file in MODULES:
        source = file.read_text(encoding="utf-8")
        code = {n for row in split_rows(source) for n in row.code}
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if (
                token.type == tokenize.COMMENT
                and token.line.strip() == token.string
                and token.start[0] in code
            ):
                assert token.string.startswith(("# fmt:", "# noqa", "# type:")), f"{file}:{token.start[0]}"


def test_a_comment_above_a_definition_belongs_to_it():
    [row] = split_rows('# why\ndef f():\n    """What."""\n')
    assert [piece.prose for piece in row.prose] == ["why", "What."]


def test_what_is_not_python_is_refused():
    with pytest.raises(SyntaxError):
        split_rows("def f(:\n")
