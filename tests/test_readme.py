r"""What the README shows can be typed in."""

import re
from pathlib import Path

import numpy as np
import pytest

from ldm.cli import make_parser

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CARD = (REPOSITORY / "weights" / "tiny" / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_python_in_the_readme_runs_and_its_steps_make_the_picture_of_generate(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    [block] = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert (np.asarray(names["image"]) == np.asarray(names["images"][0])).all()


@pytest.mark.parametrize(
    "line", re.findall(r"^ldm [^#\n]+|(?<=`)ldm [^`]+", README + CARD, flags=re.MULTILINE)
)
def test_every_command_that_is_shown_is_understood(line):
    import shlex

    for command in line.split("&&"):
        words = [{"PROMPT": "a dog", "sheet.png": "s.png"}.get(word, word) for word in shlex.split(command)]
        if words[0] == "ldm" and len(words) > 1:
            assert callable(make_parser().parse_args(words[1:]).command)


def test_what_the_readme_links_to_is_there():
    for text, folder in ((README, REPOSITORY), (CARD, REPOSITORY / "weights" / "tiny")):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("https://") or (folder / target).exists(), target
