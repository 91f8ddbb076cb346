r"""Where pictures go, and what is told meanwhile."""

import os
from pathlib import Path

import pytest

from ldm.cli.output import check_place, output_path, printable, tell
from ldm.errors import LdmError
from tests.cli.terminal import files


def test_a_number_goes_to_no_name_that_is_taken(work):
    assert output_path(None, "s", 0, 1) == Path("outputs/00001-s.png")
    (work / "outputs").mkdir()
    (work / "outputs/00041-x.png").touch()
    assert output_path(Path("outputs"), "s", 0, 1) == Path("outputs/00042-s.png")


@pytest.mark.parametrize("out", [None, "new", "new/deep/x.png", "x.PNG", "there", "there/x.png", "."])
def test_a_place_that_can_be_made_passes_and_nothing_is_made(work, out):
    (work / "there").mkdir()
    check_place(None if out is None else Path(out))
    assert files(work) == [] and [path.name for path in work.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("taken", "taken is not a folder"),
        ("taken/x.png", "taken is not a folder"),
        ("taken/deep/er", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("nul\0/x.png", "embedded null byte"),
    ],
)
def test_a_place_that_cannot_be_made_is_an_error_before_painting(work, out, reason):
    (work / "taken").touch()
    with pytest.raises(LdmError) as caught:
        check_place(Path(out))
    assert str(caught.value) == f"cannot write {out}: {reason}; give another place"


def test_a_folder_without_the_right_to_write_is_an_error(work, monkeypatch):
    (work / "theirs").mkdir()
    monkeypatch.setattr(
        os, "access", lambda place, mode: Path(place).name != "theirs"
    )  # root may write anywhere
    with pytest.raises(
        LdmError, match="cannot write theirs/new: theirs may not be written to; give another place"
    ):
        check_place(Path("theirs/new"))


def test_pictures_are_written_as_png_alone():
    with pytest.raises(
        LdmError, match="--out dog.jpeg; pictures are written as .png: give such a name, or a folder"
    ):
        check_place(Path("dog.jpeg"))


def test_what_is_told_is_one_line_and_drives_no_terminal(capsys):
    assert printable("a\nb\r\x1b[2J \ud800 \N{DOG FACE} é") == "a\\nb\\r\\x1b[2J \\ud800 \N{DOG FACE} é"
    tell("a\nb")
    assert capsys.readouterr() == ("", "a\\nb\n")
    tell("\n" * 999 + "abc")
    assert capsys.readouterr() == ("", "\\n" * 999 + "a... and 2 characters more\n")
