r"""The hires fix: against its steps by hand, in both modes; sizes, seeds, and what does not go with it."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ldm.diffusion.guidance import classifier_free_guidance
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.samplers.ddim import ddim_step
from ldm.errors import LdmError
from ldm.hires import enlarged, generate_large, large_size
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER

STEPS = 3


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LatentDiffusion(CONFIG, TOKENIZER).double().eval().requires_grad_(False)


def by_hand(model, latent, seed):
    r"""The second pass of 24 x 16 pixels: the last two of three steps, in windows of 8 x 8 at 0 and 4 of 12 columns."""
    levels = model.levels("ddim", STEPS)
    assert [level.t for level in levels] == [667, 334, 1, 0]
    levels = levels[1:]
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator("cpu").manual_seed(seed)).double()
    x = levels[0].alpha * latent + levels[0].sigma * noise
    both = model.encode_text(["red dog", ""]).context
    for level, next_level in zip(levels, levels[1:]):
        total, count = torch.zeros_like(x), torch.zeros(12, dtype=x.dtype)
        for left in (0, 4):
            piece = x[..., left : left + 8]
            t = torch.tensor(level.t, dtype=torch.float32)
            cond, uncond = model.unet(torch.cat([piece, piece]), t, both).chunk(2)
            out = classifier_free_guidance(uncond, cond, 2.0)
            x0, eps = x0_and_eps("eps", out, piece, level)
            total[..., left : left + 8] += ddim_step(x0, eps, level, next_level)
            count[left : left + 8] += 1
        x = total / count
    return x


OPTIONS = {"steps": STEPS, "sampler": "ddim", "guidance": 2.0, "seed": 7, "output": "latent"}


def test_a_whole_run_on_the_latent_in_windows_equals_its_steps_by_hand(model):
    got = generate_large(model, "red dog", size=(12, 8), mode="latent", strength=0.7, window=16, **OPTIONS)
    small = model.generate("red dog", size=(12, 8), **OPTIONS)
    latent = F.interpolate(small, (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, by_hand(model, latent, 7), rtol=0, atol=1e-10)


@pytest.mark.parametrize("more", [{}, {"spacing": "karras", "steps": 5}, {"steps": [900, 500, 200]}])
def test_on_pixels_the_second_pass_is_image_to_image_of_the_enlarged_image(model, more):
    options = OPTIONS | more
    got = generate_large(model, "red dog", size=(12, 8), strength=0.67, **options)
    [image] = model.generate("red dog", size=(12, 8), **options | {"output": "pil"})
    init = image.resize((24, 16), Image.Resampling.LANCZOS)
    expected = model.generate("red dog", init=init, size=(24, 16), strength=0.67, **options)
    assert torch.equal(got, expected)


def test_seeds_and_batches_agree_and_every_output_is_there(model):
    options = {"steps": 2, "size": (8, 8), "mode": "latent"}
    both = generate_large(model, "red dog", seed=5, batch=2, output="tensor", **options)
    [_, second] = generate_large(model, ["red dog", "red dog"], seed=[5, 6], **options)
    assert both.shape == (2, 3, 16, 16) and second.size == (16, 16)
    alone = generate_large(model, "red dog", seed=6, output="tensor", **options)
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-10)


def test_more_strength_changes_more(model):
    options = OPTIONS | {"size": (8, 8)}
    base = enlarged(model, model.generate("red dog", **options), (16, 16), "latent")
    weak, strong = (
        (generate_large(model, "red dog", strength=s, mode="latent", **options) - base).norm()
        for s in (0.34, 0.99)
    )
    assert 0 < weak < strong


def test_the_blurred_latent_has_too_little_variance(model):
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert enlarged(model, latent, (64, 64), "latent").var() < 0.6 * latent.var()


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((512, 512), 2.0, (1024, 1024)), ((512, 768), 1.5, (768, 1152)), ((512, 512), 1.3, (664, 664))],
)
def test_sizes_are_whole_latent_positions(size, scale, expected):
    assert large_size(size, scale, 8) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1.0}, "hires with scale 1.0 .*; expected a scale above 1"),
        ({"scale": float("nan")}, "hires with scale nan"),
        ({"mode": "latents"}, "mode is 'latents'"),
        ({"strength": 1.0}, "strength 1.0; expected .* a strength between 0"),
        ({"strength": 0.0}, "strength 0.0; expected .* a strength between 0"),
        ({"init": Image.new("RGB", (8, 8))}, "hires with init; it begins with an image of its own"),
        ({"strength": 0.0005, "steps": 2}, "leaves none of 2 steps"),
        ({"scale": 1000.0}, "pixels; expected at most"),
    ],
)
def test_what_does_not_go_together_is_named(model, options, message):
    with pytest.raises(LdmError, match=message):
        generate_large(model, "red dog", **{"steps": 2, "seed": 1} | options)
