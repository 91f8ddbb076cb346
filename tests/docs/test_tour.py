r"""What the tour shows can be typed in."""

import re
from pathlib import Path

import numpy as np
import pytest

import ldm

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_python_in_the_tour_paints_the_picture_of_generate(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    tour = (REPOSITORY / "docs" / "tour.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", tour, flags=re.DOTALL)
    names: dict = {}
    exec(compile(block.replace('"dog.png"', repr(str(tmp_path / "dog.png"))), "tour.md", "exec"), names)
    [expected] = ldm.load("tiny").generate("a dog with glasses", steps=30, seed=42)
    assert (np.asarray(names["image"]) == np.asarray(expected)).all()
    assert (tmp_path / "dog.png").stat().st_size > 0
