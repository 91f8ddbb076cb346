r"""ControlNets live: what diffusers saves opens here and computes the same; the golden file is what it answers now."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from ldm.adapters.control import Control, residual_scales
from ldm.checkpoints.loaded import LoadedModel
from ldm.diffusion.conditioning import Conditioning
from ldm.diffusion.level import Level
from ldm.loading import load_control
from tests.golden import make
from tests.golden.compare import assert_same, golden
from tests.golden.make_control import control, exact_guess, make_control, picture
from tests.small import CONFIG, TOKENIZER
from tests.unet.test_golden import SIZES as UNETS

pytestmark = pytest.mark.reference
HINT = (4, 6)


@pytest.mark.parametrize("name", ["a", "pool"])
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_a_folder_that_diffusers_writes_computes_the_same_here(tmp_path, kind, name):
    r"""With the hint as `Control` makes it of an image, at two timesteps, whole and in guess mode."""
    theirs = control(make.unet(**make.UNET_SIZES[kind]), HINT, name)
    theirs.save_pretrained(tmp_path)
    model = LoadedModel(replace(CONFIG, unet=UNETS[kind]), TOKENIZER).double().eval()
    network = load_control(tmp_path, model)
    assert network.pool == (name == "pool")
    x_t, context = make.numbers(6, 2, 4, 16, 12), make.numbers(5, 2, 6, make.UNET_SIZES[kind]["context"])
    image = picture(3)
    hint = torch.from_numpy(np.asarray(image).copy())[None].permute(0, 3, 1, 2).double() / 255
    for guess in (False, True):
        using = Control(network, image, strength=0.8, guess=guess)
        residuals, negative = using([Level(981, 0.1, 0.9), Level(7, 0.9, 0.1), Level(0, 1.0, 0.0)], (24, 32))
        assert (negative is None) == (guess or network.pool)
        for t in (981, 7):
            out = residuals(x_t, Level(t, 0.1, 0.9), Conditioning(context))
            with exact_guess():
                down, mid = theirs(
                    x_t, t, context, hint.expand(2, -1, -1, -1), 0.8, guess_mode=guess, return_dict=False
                )
            for ours, expected in zip(out, [*down, mid], strict=True):
                assert_same(ours, expected)


def test_the_weights_of_guess_mode_are_the_references_but_for_its_float32():
    scales = torch.tensor(residual_scales(13, 1.0, guess=True), dtype=torch.float64)
    torch.testing.assert_close(scales.float(), torch.logspace(-1, 0, 13), rtol=1e-6, atol=0)


def test_the_golden_file_is_what_the_reference_answers_now():
    stored, made = golden("control"), make_control()
    assert stored.keys() == made.keys()
    for key in stored:
        # Sinusoids of float32 go into the runs, and there processors may differ in the last bit.
        assert_same(made[key].double(), stored[key].double(), 1e-4)
