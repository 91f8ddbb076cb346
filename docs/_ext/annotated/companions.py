r"""What stands on a module's page without being in its source: a title in words, what one learns, notes, pictures.

`docs/annotated/unet.unet.md` is the companion of `ldm/unet/unet.py`. Its `#` heading is the page's title, and what
follows, up to the first `##`, is what one learns there. Every `##` heading says where the note below it belongs: the
name of a definition (`## UNet`), above which it stands as wide as the page, or a line of the file (`` ## `h = ...` ``),
beside which it stands. Of a line its beginning is enough, without indentation, if no other line begins so. No note
outlives what it explains: the build fails for a place that is gone.

The museum's mistakes are notes as well, beside the line that each of them gets wrong.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotated.rows import Piece, Row
from ldm.lab.museum.rooms import MISTAKES

FOLDER = "docs/annotated"


@dataclass(frozen=True)
class Note:
    """Markdown, with the number of its first line in its file; `place` is a name or a line of the module."""

    place: str
    text: str
    line: int = 1
    kind: str = "note"


@dataclass(frozen=True)
class Companion:
    title: str
    goals: Note
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Annotated:
    """A row with the notes that stand above it and those that stand beside its first line."""

    row: Row
    above: tuple[Note, ...] = ()
    beside: tuple[Note, ...] = ()


def companion_file(root: Path, module: str) -> Path:
    return root / FOLDER / f"{module.removeprefix('ldm.')}.md"


def read_companion(file: Path) -> Companion | None:
    """The companion in a file; None if there is no such file."""
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if re.match(r"##? ", line)]
    parts = [
        Note(lines[a].lstrip("# ").strip("`"), "\n".join(lines[a + 1 : b]).rstrip(), a + 2)
        for a, b in zip(starts, [*starts[1:], len(lines)])
    ]
    return Companion(parts[0].place, parts[0], tuple(parts[1:]))


def mistakes_in(path: str, source: str) -> Iterator[Note]:
    """A note of the museum's mistakes that are made in this file, beside the first line that they change."""
    up, links = "../" * path.count("/"), defaultdict[int, list[str]](list)
    for mistake in MISTAKES:
        if f"ldm/{mistake.file}" != path:
            continue
        old, new = mistake.before.splitlines(), mistake.after.splitlines()
        same = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)) - 1)
        number = source[: source.index(mistake.before)].count("\n") + 1 + max(0, same)
        slug = re.sub(r"[^\w -]", "", f"{mistake.number}. {mistake.name}".lower()).replace(" ", "-")
        links[number].append(f"[{mistake.name}]({up}docs/museum.md#{slug})")
    for number, found in links.items():
        yield Note(f"L{number}", f"Easy to get wrong: {'; '.join(found)}.", number, "mistake")


def annotate(rows: Sequence[Row], source: str, notes: Iterable[Note]) -> tuple[list[Annotated], list[Note]]:
    """The rows with their notes, cut where a note begins in their midst; and the notes that have no place."""
    lines = source.splitlines()
    above: dict[str, list[Note]] = {}
    beside: dict[int, list[Note]] = {}
    lost = []
    names = {name for row in rows for name in row.names}
    for note in notes:
        found = [n for n, line in enumerate(lines, start=1) if line.strip().startswith(note.place)]
        if note.kind == "mistake":
            beside.setdefault(note.line, []).append(note)
        elif note.place in names:
            above.setdefault(note.place, []).append(note)
        elif len(found) == 1:
            beside.setdefault(found[0], []).append(note)
        else:
            lost.append(note)
    annotated = []
    for row in rows:
        first, *rest = cut(row, sorted(beside))
        over = [note for name in row.names for note in above.get(name, [])]
        for part in (first, *rest):
            here = [note for n in part.code for note in beside.get(n, [])]
            annotated.append(Annotated(part, tuple(over), tuple(here)))
            over = []
    return list(joined(annotated)), lost


def joined(rows: Iterable[Annotated]) -> Iterator[Annotated]:
    """A class's first method that says nothing itself goes into the class's row, whose prose is beside both."""
    last: Annotated | None = None
    for shown in rows:
        silent = not (shown.row.prose or shown.above or shown.beside)
        if silent and last and is_method(shown.row, last.row):
            both = Row(last.row.pieces + shown.row.pieces, last.row.names + shown.row.names)
            last = Annotated(both, last.above, last.beside)
            continue
        if last:
            yield last
        last = shown
    if last:
        yield last


def is_method(row: Row, of: Row) -> bool:
    """Whether a row begins with a method of the class that another one ends with."""
    return bool(row.names and of.names) and row.names[0].startswith(f"{of.names[-1]}.")


def cut(row: Row, starts: Sequence[int]) -> list[Row]:
    """A row in parts that begin at these lines, where they are code in its midst."""
    inside = [n for n in row.code if n in starts and n != row.code[0]]
    parts, rest = [], list(row.pieces)
    for start in inside:
        before, after = [], []
        for piece in rest:
            if piece.stop <= start:
                before.append(piece)
            elif piece.start >= start:
                after.append(piece)
            else:
                before.append(Piece(piece.start, start))
                after.append(Piece(start, piece.stop))
        parts.append(tuple(before))
        rest = after
    pieces = [*parts, tuple(rest)]
    return [replace(row, pieces=p, names=row.names if i == 0 else ()) for i, p in enumerate(pieces)]
