r"""Recipes: the first numbers as the publishers print them, and files that are not what they should be."""

import numpy as np
import pytest

from ldm.errors import LdmError
from ldm.lab.verify.inputs import make_input, missing_files


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"from": "numpy", "seed": 0, "shape": [1, 4, 64, 64]}, [1.76405, 0.40016, 0.97874, 2.24089]),
        (
            {"from": "torch", "seed": 0, "shape": [1, 4, 96, 96]},
            [-1.1258, -1.1524, -0.2506, -0.4339],
        ),
        ({"from": "philox", "seed": 13, "shape": [3, 4, 64, 64]}, [1.0607, 0.3815, 0.3934, 0.7325]),
    ],
)
def test_noise_begins_with_the_known_numbers(recipe, expected):
    made = make_input(recipe, None)
    assert list(made.shape) == recipe["shape"]
    np.testing.assert_allclose(made.flatten()[:4], expected, rtol=0, atol=6e-5)


def test_a_file_gives_its_numbers_and_is_missed_when_it_is_not_there(tmp_path):
    recipe = {"from": "file", "name": "noise.npy", "shape": [2, 3]}
    inputs = {"x": recipe, "scale": 1.0, "y": {"from": "numpy", "seed": 0, "shape": [1]}}
    assert missing_files(inputs, None) == missing_files(inputs, tmp_path) == ["noise.npy"]
    np.save(tmp_path / "noise.npy", np.arange(6.0).reshape(2, 3))
    assert missing_files(inputs, tmp_path) == []
    assert make_input(recipe, tmp_path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "content",
    [np.zeros((3, 2)), np.zeros((2, 3), int), np.array([[{}] * 3] * 2, object), b"", b"<!doctype html>"],
)
def test_a_file_of_anything_else_is_an_error(tmp_path, content):
    path = tmp_path / "noise.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(LdmError, match="noise.npy"):
        make_input({"from": "file", "name": "noise.npy", "shape": [2, 3]}, tmp_path)


@pytest.mark.parametrize(
    "recipe", [{"from": "dice"}, {"from": "numpy", "seed": 0}, {"from": "file", "name": "a"}]
)
def test_a_recipe_that_says_too_little_is_an_error(recipe):
    with pytest.raises(LdmError, match="unknown recipe"):
        make_input(recipe, None)
