r"""`ldm postcards`: a sheet, or single images with captions."""

import json

import numpy as np

from ldm.postcards import contact_sheet, postcard
from tests.cli.terminal import files, pixels, run


def test_postcards_draws_the_contact_sheet(capsys, work):
    assert run(capsys, "postcards", "--grid", "sheets/all.png", "--size", 16) == (0, "sheets/all.png\n", [])
    assert (pixels(work / "sheets/all.png") == np.asarray(contact_sheet(16))).all()


def test_a_contact_sheet_is_a_png(capsys, work):
    code, out, errors = run(capsys, "postcards", "--grid", "sheet.jpg")
    assert (code, out) == (1, "")
    assert errors == ["ldm: --grid sheet.jpg; images are written as .png: give such a name"]


def test_postcards_are_exported_with_their_captions(capsys, work):
    assert run(capsys, "postcards", "--folder", "cards", "--count", 3, "--size", 16) == (0, "cards\n", [])
    assert files(work) == [*(f"cards/0000{i}.png" for i in range(3)), "cards/metadata.jsonl"]
    for i, line in enumerate((work / "cards/metadata.jsonl").read_text(encoding="utf-8").splitlines()):
        card = postcard(i, size=16)
        assert json.loads(line) == {"file_name": f"0000{i}.png", "text": card.caption}
        assert (pixels(work / f"cards/0000{i}.png") == np.asarray(card.image)).all()
    code, _, [error] = run(capsys, "postcards", "--folder", "none", "--count", 0)
    assert code == 1 and error == "ldm: 0 postcards; expected at least 1" and not (work / "none").exists()
    code, _, [error] = run(capsys, "postcards", "--folder", "cards/00000.png", "--count", 1)
    assert code == 1 and error.startswith("ldm: cannot write cards/00000.png: ")


def test_the_words_of_the_captions_are_printed_by_language(capsys, work, monkeypatch):
    monkeypatch.setattr("ldm.postcards.vocabulary", {"en": ["a", "lake"], "fr": ["un", "lac", "à"]}.get)
    assert run(capsys, "postcards", "--words") == (0, "en, 2 words: a, lake\nfr, 3 words: un, lac, à\n", [])
