r"""Where images go, and what is told meanwhile."""

import os
from pathlib import Path

import pytest
from PIL import Image

from ldm.cli.output import check_place, printable, save_output, tell
from ldm.errors import LdmError
from tests.cli.terminal import files
from tests.images.test_metadata import RECORD

DOT = Image.new("RGB", (8, 8))


def test_a_number_goes_to_no_name_that_is_taken(work, capsys):
    save_output(DOT, None, "s", 0, 1, RECORD)
    (work / "outputs/00041-x.png").touch()
    save_output(DOT, Path("outputs"), "s", 0, 1, RECORD)
    assert capsys.readouterr().out == "outputs/00001-s.png\noutputs/00042-s.png\n"


def test_processes_that_write_into_one_folder_at_once_lose_nothing(work, capfd):
    children = []
    for _ in range(3):
        children.append(os.fork())
        if not children[-1]:
            for _ in range(12):
                save_output(DOT, None, "1", 0, 1, RECORD)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(files(work)) == 36 == len(set(capfd.readouterr().out.splitlines()))


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
def test_a_place_that_cannot_be_made_is_an_error_before_generating(work, out, reason):
    (work / "taken").touch()
    with pytest.raises(LdmError) as caught:
        check_place(Path(out))
    assert str(caught.value) == f"cannot write {out}: {reason}; give another place"


def test_a_folder_without_the_right_to_write_is_an_error(work, monkeypatch):
    (work / "theirs").mkdir()
    monkeypatch.setattr(
        os, "access", lambda place, mode: Path(place).name != "theirs"
    )  # root may write anywhere
    with pytest.raises(LdmError, match="cannot write theirs/new: theirs is not writable; give another place"):
        check_place(Path("theirs/new"))


def test_images_are_written_as_png_alone():
    with pytest.raises(
        LdmError, match="--out dog.jpeg; images are written as .png: give such a name, or a folder"
    ):
        check_place(Path("dog.jpeg"))


def test_what_is_told_is_one_line_and_drives_no_terminal(capsys):
    assert printable("a\nb\r\x1b[2J \ud800 \N{DOG FACE} é") == "a\\nb\\r\\x1b[2J \\ud800 \N{DOG FACE} é"
    tell("a\nb")
    assert capsys.readouterr() == ("", "a\\nb\n")
    tell("\n" * 999 + "abc")
    assert capsys.readouterr() == ("", "\\n" * 999 + "a... and 2 characters more\n")
