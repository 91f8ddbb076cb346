r"""The recorded figures of the small models, measured anew."""

import json

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

from tests.golden.make_figures import FIGURES, make_figures

pytestmark = pytest.mark.reference


@torch.no_grad()
def test_the_recorded_figures_are_what_the_reference_gives_now():
    stored, made = json.loads(FIGURES.read_text()), make_figures()
    assert stored["releases"] == made["releases"]
    for before, now in zip(stored["figures"], made["figures"], strict=True):
        assert before["inputs"] == now["inputs"] and before["part"] == now["part"]
        assert now["expected"] == pytest.approx(before["expected"], abs=3e-5)
