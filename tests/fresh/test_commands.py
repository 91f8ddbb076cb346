r"""The README's command lines run as written, in order, in a fresh clone, and leave nothing beside `outputs/`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# Lines that others run: `make fresh` runs the targets, `git clone` and `cd` have brought us here.
NOT_HERE = ("make ", "git clone ", "cd ")
FAILS = "exits with 1"  # what the comment of such a line says


def blocks(text: str) -> Iterator[tuple[str, str]]:
    r"""Each fenced block of commands (those without a language), with its section."""
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE):
            if not language:
                yield section, block


def commands(text: str = README) -> list[str]:
    r"""The lines to run, with their comments: from a download on, a section's lines need what it brought."""
    lines, without = [], ""
    for section, block in blocks(text):
        for line in block.splitlines():
            if line.startswith("hf download"):
                without = section
            if line.startswith(NOT_HERE) or section == without:
                continue
            lines.append(line)
    return [line for line in lines if not line.startswith("pip install ")]


def in_prose(text: str = README) -> list[str]:
    r"""The commands in running text, but for bare names such as `ldm explore`."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`(ldm \w+ [^`]+)`", prose)


def tracked() -> list[str]:
    r"""The files of a fresh clone, those that are new and not ignored included."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no clone, so git cannot say what belongs to one")
    return [name for name in done.stdout.split("\0") if (REPOSITORY / name).is_file()]


@pytest.fixture
def clone(tmp_path) -> Path:
    r"""A fresh clone, whose `.venv` is the environment that runs this test."""
    folder = tmp_path / "ldm"
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, folder / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    here = Path(sys.executable).parent
    (programs / "activate").write_text(f"PATH={here}:$PATH\n", encoding="utf-8")
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (programs / "python").chmod(0o755)
    return folder


def files(folder: Path) -> set[str]:
    r"""The files of a folder, but for outputs and what Python keeps for itself."""
    own = {"outputs", ".venv", ".hypothesis", "__pycache__"}
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not own & {*path.parts}}


def test_the_lines_to_run_are_those_of_the_readme_but_for_make_and_what_follows_a_download():
    lines = commands()
    shown = [
        line for line in README.splitlines() if re.match(r"(ldm|torchrun|python|\.venv/bin/python) ", line)
    ]
    weights = README[README.index("\nhf download") :].partition("\n## ")[0]
    assert [line for line in shown if line not in weights.splitlines()] == [
        line for line in lines if re.match(r"(ldm|torchrun|python|\.venv/bin/python) ", line)
    ]
    assert len(lines) > 20 and lines[0] == "source .venv/bin/activate"


@pytest.mark.long
def test_the_commands_of_the_readme_run_as_written_and_leave_nothing_beside_outputs(clone):
    before, script = files(clone), ["set -e"]
    for line in [*commands(), *in_prose()]:
        script.append(f"({line.partition('#')[0]}) && exit 9 || [ $? = 1 ]" if FAILS in line else line)
    environment = os.environ | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-x", "-c", "\n".join(script)], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, "\n".join(done.stderr.splitlines()[-12:])
    outputs = clone / "outputs"
    assert (outputs / "again.png").read_bytes() == (outputs / "cat.png").read_bytes()
    for name in re.findall(r"outputs/[\w./-]+", "\n".join(commands())):
        assert (clone / name).exists(), name
    assert files(clone) == before
