r"""What the tour shows can be typed in."""

import re
from pathlib import Path

import numpy as np
import pytest

import ldm

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "prompt", "file"),
    [
        ("tour.md", "a dog with glasses", "dog.png"),
        ("fr/tour.md", "un chien avec des lunettes", "chien.png"),
    ],
)
def test_the_python_in_the_tour_paints_the_picture_of_generate(page, prompt, file, monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    tour = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", tour, flags=re.DOTALL)
    names: dict = {}
    exec(compile(block.replace(f'"{file}"', repr(str(tmp_path / file))), page, "exec"), names)
    [expected] = ldm.load("tiny").generate(prompt, sampler="ddim", steps=30, seed=42)
    assert (np.asarray(names["image"]) == np.asarray(expected)).all()
    assert (tmp_path / file).stat().st_size > 0
