r"""A second model that finishes the sampling: the two written out, what each is told, and who cannot take over."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ldm.checkpoints.key_map import text_rows, unet_rows, vae_rows
from ldm.diffusion.micro_conditioning import MicroConditioning
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.pipeline import LatentDiffusion
from ldm.refiner import check_refiner, generate_refined
from ldm.text.tokenizer import Tokenizer
from tests.golden.compare import filled
from tests.golden.sdxl import CONFIG, REFINER_UNET, TEXT_2, TOKENIZER, small_sdxl
from tests.small import MERGES

REFINER = replace(
    CONFIG, name="refiner", text=TEXT_2, text_2=None, unet=replace(REFINER_UNET, context_width=TEXT_2.width)
)
OPTIONS = {"size": (24, 32), "steps": 4}


def small_refiner() -> LatentDiffusion:
    model = LatentDiffusion(REFINER, Tokenizer(MERGES, 32, TEXT_2.pad))
    filled(model.text, text_rows(TEXT_2))
    filled(model.unet, unet_rows(REFINER.unet, linear_projection=True))
    filled(model.vae, vae_rows(CONFIG.vae))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return small_sdxl()


@pytest.fixture(scope="module")
def refiner():
    return small_refiner()


def same(images, others) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(images, others, strict=True))


@pytest.mark.parametrize(
    "sampler", [pytest.param("euler_leading", marks=pytest.mark.long), "euler_ancestral"]
)
def test_it_is_both_models_one_after_the_other_with_noise_of_its_own_for_each(model, refiner, sampler):
    images = generate_refined(
        model, refiner, "red dog", "dog", 0.5, seed=7, batch=2, sampler=sampler, **OPTIONS
    )
    shared = {"sampler": sampler, "output": "latent", **OPTIONS}
    x = model.generate("red dog", "dog", seed=[7, 8], stop=0.5, **shared)
    x = refiner.generate(["red dog"] * 2, "dog", latents=x, start=0.5, seed=[7 + 2**31, 8 + 2**31], **shared)
    assert same(images, to_images(model.decode_pixels(x)))


def test_each_model_is_told_what_it_was_trained_to_read_and_the_first_decodes(model, refiner):
    def generate(micro=None, second=refiner):
        return generate_refined(model, second, "red dog", micro=micro, seed=1, switch_at=0.5, **OPTIONS)

    plain = generate()
    both = MicroConditioning((64, 8), (2, 3), (8, 64), aesthetic_score=9.0)
    for told in (replace(both, aesthetic_score=None), MicroConditioning(aesthetic_score=9.0)):
        assert not same(generate(told), plain)
    other = small_refiner()
    other.vae = LatentDiffusion(REFINER, TOKENIZER).vae
    assert same(generate(second=other), plain)


def test_a_controlnet_acts_on_the_first_model_alone(model, refiner):
    seen = set()

    def residuals(x_t, level, cond):
        seen.add(cond.context.shape[-1])
        return []

    both = residuals, residuals
    options = OPTIONS | {"seed": 1, "switch_at": 0.5, "control": lambda levels, size: both}
    generate_refined(model, refiner, "red dog", **options)
    assert seen == {CONFIG.unet.context_width} != {REFINER.unet.context_width}


def test_the_sampler_and_the_number_of_steps_are_the_first_models(model, refiner):
    other = small_refiner()
    other.config = replace(REFINER, defaults=replace(REFINER.defaults, sampler="ddim", steps=9))
    options = {"seed": 1, "size": (24, 32), "switch_at": 0.5}
    images = [generate_refined(model, second, ["dog", "red dog"], **options) for second in (refiner, other)]
    assert same(*images) and len(images[0]) == 2


def test_who_cannot_take_over_is_an_error(model, refiner):
    with pytest.raises(LdmError, match="sdxl is no refiner; expected Stable Diffusion XL's"):
        check_refiner(model, model)
    for change in (
        {"noise": replace(CONFIG.noise, beta_end=0.02)},
        {"vae": replace(CONFIG.vae, scale=0.2)},
        {"unet": replace(CONFIG.unet, added=None)},
    ):
        other = LatentDiffusion(replace(CONFIG, **change), TOKENIZER)
        with pytest.raises(
            LdmError, match="refiner cannot refine what sdxl generates: its latents or its noise"
        ):
            check_refiner(other, refiner)
    predicts_v = LatentDiffusion(replace(CONFIG, noise=replace(CONFIG.noise, prediction="v")), TOKENIZER)
    check_refiner(predicts_v, refiner)


@pytest.mark.parametrize(
    "option", [{"latents": torch.zeros(1, 4, 16, 12)}, {"output": "latent"}, {"start": 0.5}]
)
def test_what_does_not_go_with_a_refiner_is_an_error_before_anything_is_computed(model, refiner, option):
    with pytest.raises(
        LdmError, match=f"{next(iter(option))} with a refiner, which refines what begins as pure noise"
    ):
        generate_refined(model, refiner, "dog", **option)


def test_a_share_of_the_way_that_leaves_one_of_them_nothing_is_an_error(model, refiner):
    for share in (0.0, 1.0):
        with pytest.raises(LdmError, match="expected 0 <= start < stop <= 1"):
            generate_refined(model, refiner, "dog", switch_at=share, seed=1, **OPTIONS)
