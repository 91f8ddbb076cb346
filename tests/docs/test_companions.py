r"""What stands on a module's page beside its source: each note has its place, and none hides a line of code."""

from pathlib import Path

import pytest

from annotated.companions import FOLDER, Note, annotate, mistakes_in, read_companion
from annotated.rows import body, split_rows
from ldm.chapters import CHAPTERS

REPOSITORY = Path(__file__).resolve().parents[2]
COMPANIONS = sorted((REPOSITORY / FOLDER).glob("*.md"))

SOURCE = '''\
"""Module."""

import math

class A:
    """What."""

    def __init__(self):
        self.x = 1

    def root(self):
        y = self.x
        return math.sqrt(y)
'''


def code(rows):
    return [n for shown in rows for n in shown.row.code]


def source_of(names, companion: Path) -> str:
    module = names.modules[f"ldm.{companion.stem}"]
    return (REPOSITORY / module.path).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", COMPANIONS, ids=lambda file: file.stem)
def test_every_note_of_a_companion_has_its_place(names, file):
    companion, source = read_companion(file), source_of(names, file)
    assert companion.title and companion.goals.text.strip().startswith("- ")
    _, lost = annotate(body(source)[2], source, companion.notes)
    assert [note.place for note in lost] == []
    assert [note.place for note in companion.notes if not note.text.strip()] == []


def test_notes_cut_rows_and_lose_no_line(names):
    for module in names.modules.values():
        source = (REPOSITORY / module.path).read_text(encoding="utf-8")
        companion = read_companion(REPOSITORY / FOLDER / f"{module.name.removeprefix('ldm.')}.md")
        notes = [*(companion.notes if companion else ()), *mistakes_in(module.path, source)]
        rows = body(source)[2]
        annotated, _ = annotate(rows, source, notes)
        assert code(annotated) == [n for row in rows for n in row.code], module.name
        defined = [name for row in rows for name in row.names]
        assert [name for shown in annotated for name in shown.row.names] == defined, module.name
        shown = [note for row in annotated for note in (*row.above, *row.beside)]
        assert sorted(note.text for note in shown) == sorted(note.text for note in notes), module.name


def test_a_note_stands_above_a_definition_or_beside_a_line():
    rows = body(SOURCE)[2]
    notes = [Note("A.root", "above"), Note("return math.sqrt(y)", "beside")]
    first, method, last = annotate(rows, SOURCE, notes)[0]
    assert first.row.names == ("A", "A.__init__") and not first.above
    assert [note.text for note in method.above] == ["above"] and not method.beside
    assert [note.text for note in last.beside] == ["beside"] and last.row.code == [13]


@pytest.mark.parametrize("place", ["B", "return math.sqrt(z)", "math"])
def test_a_note_without_a_place_is_noticed(place):
    _, lost = annotate(body(SOURCE)[2], SOURCE, [Note(place, "lost")])
    assert [note.place for note in lost] == [place]


def test_the_beginning_of_a_line_is_enough_if_no_other_begins_so():
    [*_, last] = annotate(body(SOURCE)[2], SOURCE, [Note("return math", "beside")])[0]
    assert [note.text for note in last.beside] == ["beside"]
    assert annotate(body(SOURCE)[2], SOURCE, [Note("def", "lost")])[1]


def test_a_line_that_stands_twice_is_no_place():
    _, lost = annotate(
        split_rows("def f():\n    a()\n    a()\n"), "def f():\n    a()\n    a()\n", [Note("a()", "")]
    )
    assert lost


def test_the_museums_mistakes_stand_beside_the_line_that_they_change():
    source = (REPOSITORY / "ldm/unet/unet.py").read_text(encoding="utf-8")
    [order] = [note for note in mistakes_in("ldm/unet/unet.py", source) if "wrong order" in note.text]
    assert "torch.cat([h, skip], dim=1)" in source.splitlines()[order.line - 1]


# Files in which mathematics happens: words of notes for each line of code that is no import.
MATHEMATICAL = [
    *("nn.attention", "nn.resnet", "unet.unet", "unet.transformer", "unet.embedding"),
    *(
        "vae.mid",
        "vae.encoder",
        "vae.decoder",
        "vae.vae",
        "networks",
        "pipeline",
        "plane.mixture",
        "text.encoder",
        "text.clip",
    ),
    *("diffusion.level", "diffusion.guidance", "diffusion.sample", "diffusion.schedule", "diffusion.predict"),
    *("diffusion.samplers.ddim", "diffusion.samplers.ddpm"),
]


@pytest.mark.parametrize("name", MATHEMATICAL)
def test_where_mathematics_happens_there_are_five_words_of_notes_a_line(names, name):
    module = names.modules[f"ldm.{name}"]
    source = (REPOSITORY / module.path).read_text(encoding="utf-8")
    companion = read_companion(REPOSITORY / FOLDER / f"{name}.md")
    rows, lines = body(source)[2], source.splitlines()
    texts = [piece.prose or "" for row in rows for piece in row.prose] + [
        note.text for note in companion.notes
    ]
    count = sum(1 for row in rows for n in row.code if lines[n - 1].strip())
    assert sum(len(text.split()) for text in texts) >= 5 * count


def test_every_chapter_says_what_one_learns():
    named = {file.stem for file in COMPANIONS}
    assert [chapter.title for chapter in CHAPTERS if not named & set(chapter.modules)] == []
