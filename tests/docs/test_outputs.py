r"""The outputs on the annotated pages: real, of the shipped model, and the same from one build to the next."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from docs import outputs, tiles

DOCS = Path(__file__).resolve().parents[2] / "docs"
OUTPUTS = {
    name: function
    for name, function in vars(outputs).items()
    if inspect.isfunction(function) and function.__module__ == outputs.__name__
    and "Tile" in str(inspect.signature(function).return_annotation)
}  # fmt: skip


def test_every_output_is_shown_and_every_output_shown_is_there():
    text = "".join(file.read_text(encoding="utf-8") for file in DOCS.rglob("*.md"))
    assert set(re.findall(r"^```\{output\} (\w+)$", text, flags=re.MULTILINE)) == set(OUTPUTS)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_an_output_is_rows_of_labelled_pictures_and_repeats(name):
    rows, again = OUTPUTS[name](), OUTPUTS[name]()
    assert all(tile.image.mode == "RGB" and tile.label for row in rows for tile in row)
    for tile, other in zip(sum(rows, []), sum(again, []), strict=True):
        assert tile.image.tobytes() == other.image.tobytes() and tile.small == other.small


def test_principal_components_tell_two_regions_apart():
    x = torch.zeros(1, 5, 4, 4)
    x[:, 1, :, 2:] = 3.0
    x += 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(np.array(tiles.principal(x))).float()
    left, right = pixels[:, :2, 0], pixels[:, 2:, 0]
    assert abs(left.mean() - right.mean()) > 200 and left.std() < 20 and right.std() < 20


def test_heat_is_dark_where_numbers_are_small_and_signed_is_pale_at_zero():
    ramp = torch.tensor([[0.0, 1.0]])
    dark, bright = np.asarray(tiles.heat(ramp))[0].sum(axis=-1, dtype=int)
    assert dark < 60 < 500 < bright
    [[blue, pale, red]] = np.asarray(tiles.signed(torch.tensor([[-2.0, 0.0, 2.0]])))
    assert min(pale) > 235 and blue[2] > blue[0] and red[0] > red[2]
