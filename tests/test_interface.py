r"""The Python interface: what can be taken out of `generate` and put in, and docs/python.md, which shows it."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import ldm
from ldm.diffusion.conditioning import Conditioning, concatenate
from ldm.diffusion.spacing import spaced_timesteps
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.pipeline import LatentDiffusion
from ldm.text.image import fit
from tests.small import CONFIG, TOKENIZER

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


@pytest.fixture
def model(randomise):
    return randomise(LatentDiffusion(CONFIG, TOKENIZER)).requires_grad_(False).double()


def latent(model, prompt="red dog", negative="dog", **options):
    return model.generate(prompt, negative, output="latent", **{"seed": 7, "sampler": "ddim"} | options)


def test_a_list_of_seeds_gives_one_image_of_each(model):
    together = latent(model, seed=[5, 2**32 - 1, 3])
    alone = torch.cat([latent(model, seed=seed) for seed in (5, 2**32 - 1, 3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    one, other = latent(model, seed=[-1, -1])
    assert not torch.equal(one, other)


@pytest.mark.parametrize("long_prompt", ["truncate", "chunk"])
def test_each_image_has_a_negative_prompt_of_its_own(model, long_prompt):
    negatives = ["red", "dog " * 40, ""]
    for prompt in ("red dog", ["red dog", "dog", "red " * 70]):
        together = latent(model, prompt, negatives, long_prompt=long_prompt)
        prompts = [prompt] * 3 if isinstance(prompt, str) else prompt
        alone = [
            latent(model, text, negative, seed=7 + i, long_prompt=long_prompt)
            for i, (text, negative) in enumerate(zip(prompts, negatives))
        ]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)
    assert not torch.allclose(together, latent(model, prompts, "red", long_prompt=long_prompt))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ["a", "b"], "seed": [1, 2, 3]}, "lists of 2 prompts, 3 seeds; expected the same number"),
        ({"prompt": ["a", "b"], "negative": ["a"]}, "lists of 2 prompts, 1 negatives"),
        ({"seed": [1, 2], "batch": 2}, "a batch of 2 with a list of seeds"),
        ({"seed": []}, "a batch of 0 images"),
        ({"seed": [1, 2**32]}, "seed 4294967296"),
        (
            {"latents": torch.zeros(1, 4, 8, 7), "size": (16, 16)},
            r"shape \[1, 4, 8, 7\]; expected \[1, 4, 8, 8\]",
        ),
        ({"latents": torch.zeros(1, 3, 8, 8)}, r"shape \[1, 3, 8, 8\]; expected \[1, 4, 8, 8\]"),
        ({"eta": 0.5, "sampler": "euler"}, "eta=0.5 with Euler, which has no eta"),
        ({"eta": 1.5, "sampler": "ddim"}, "eta is 1.5"),
        ({"steps": []}, "expected decreasing numbers"),
        ({"steps": [500, 500]}, "expected decreasing numbers"),
        ({"steps": [1000, 1]}, "expected decreasing numbers between 999 and 0"),
        ({"steps": [500, -1]}, "expected decreasing numbers"),
        ({"steps": [999.5, 1]}, "expected decreasing numbers"),
        ({"steps": [500, -0.3]}, "expected decreasing numbers"),
        ({"steps": [500], "spacing": "leading"}, "the spacing 'leading' and a list of timesteps"),
        ({"spacing": "sideways"}, "timestep spacing 'sideways'; expected one of leading"),
        ({"prompt": Conditioning(torch.zeros(1, 32, 12).double())}, "conditionings of the shapes"),
    ],
)
def test_what_does_not_fit_together_is_an_error(model, options, message):
    with pytest.raises(LdmError, match=message):
        model.generate(**{"prompt": "red dog", "seed": 1} | options)


def test_latents_take_the_place_of_the_seeds_first_noise(model):
    noise = model.noise_fn([7, 8], (24, 16))()
    for sampler in ("ddim", "euler_ancestral"):  # the second draws more, which the seed still gives
        drawn = latent(model, size=(24, 16), batch=2, sampler=sampler)
        assert torch.equal(latent(model, latents=noise, sampler=sampler), drawn)
    assert not torch.allclose(latent(model, latents=-noise), latent(model, size=(24, 16), batch=2))


def test_text_may_come_encoded(model):
    cond, uncond = model.encode_text(["red dog"]), model.encode_text(["dog"])
    expected = latent(model, batch=2)
    for prompt, negative in ((cond, uncond), (cond, "dog"), ("red dog", uncond)):
        torch.testing.assert_close(latent(model, prompt, negative, batch=2), expected, rtol=0, atol=1e-12)
    two = latent(model, model.encode_text(["red dog", "red"]), "dog")
    torch.testing.assert_close(two, latent(model, ["red dog", "red"]), rtol=0, atol=1e-12)


def test_a_conditioning_of_two_is_cut_and_joined(draw):
    whole = Conditioning(draw(2, 3, 4), draw(1, 5, 2, 2), (draw(2, 6, 2, 2),))
    parts = whole[:1], whole[1:]
    joined = concatenate(*parts)
    assert torch.equal(joined.context, whole.context) and torch.equal(joined.residuals[0], whole.residuals[0])
    assert torch.equal(joined.channels, whole.channels.expand(2, -1, -1, -1))
    with pytest.raises(LdmError, match="the conditioning of 2 images for 3; expected that of 1 or of 3"):
        whole.expand(3)
    with pytest.raises(LdmError, match="conditionings of the shapes"):
        concatenate(whole, Conditioning(whole.context))


def test_outputs_are_the_image_before_and_after_decoding(model):
    images, pixels, x = (
        model.generate("red dog", seed=7, batch=2, output=output) for output in ("pil", "tensor", "latent")
    )
    assert [image.tobytes() for image in images] == [image.tobytes() for image in to_images(pixels)]
    assert torch.equal(model.decode_pixels(x), pixels)
    init = Image.new("RGB", (16, 16), "red")
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    pixels = model.generate("red dog", seed=7, init=init, mask=mask, keep_pixels=True, output="tensor")
    expected = torch.tensor([1.0, -1, -1], dtype=pixels.dtype)
    assert (pixels[0, :, :, 8:] == expected[:, None, None]).all() and not (pixels[0, :, :, :8] == 1).all()


def test_eta_is_the_noise_that_ddim_adds(model):
    plain = latent(model, steps=4)
    assert torch.equal(latent(model, steps=4, eta=0.0), plain)
    noisy = latent(model, steps=4, eta=1.0)
    assert not torch.allclose(noisy, plain) and torch.equal(latent(model, steps=4, eta=1.0), noisy)


def test_steps_may_be_the_timesteps_themselves(model):
    times = spaced_timesteps(5, 1000, "trailing")
    for sampler in ("ddim", "dpmpp_2m_karras"):
        by_name = latent(model, steps=5, spacing="trailing", sampler=sampler)
        assert torch.equal(latent(model, steps=times, sampler=sampler), by_name)
    assert [level.t for level in model.levels([900.0, 450.5, 0], "euler")] == [900, 450.5, 0, 0]
    assert not torch.allclose(
        latent(model, steps=5, spacing="leading"), latent(model, steps=5, spacing="trailing")
    )


def test_on_step_sees_every_step_and_may_replace_x(model):
    seen = []
    watched = latent(model, steps=4, on_step=lambda x, level: seen.append((x.clone(), level.t)))
    assert [t for _, t in seen] == [501, 251, 1, 0] and torch.equal(seen[-1][0], watched)
    assert torch.equal(watched, latent(model, steps=4))
    halved = latent(model, steps=1, on_step=lambda x, level: x / 2)
    torch.testing.assert_close(halved, latent(model, steps=1) / 2)


def test_on_step_comes_before_the_kept_region_is_restored(model):
    init, mask = Image.new("RGB", (16, 16), "red"), Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    options = {"init": init, "mask": mask, "steps": 3}
    spoiled, plain = (
        latent(model, on_step=f, **options) for f in (lambda x, level: x + 5, lambda x, level: None)
    )
    assert torch.equal(spoiled[..., 4:], plain[..., 4:]) and not torch.allclose(
        spoiled[..., :4], plain[..., :4]
    )


def test_residuals_are_added_to_the_skips_and_the_middle(model, draw):
    x, context = draw(2, 4, 8, 8), model.encode_text(["red dog"])
    [level, *_] = model.levels(2, "ddim")
    skips = [draw(1, *shape) for shape in ((8, 8, 8), (8, 8, 8), (8, 4, 4), (16, 4, 4))]
    middle = draw(1, 16, 4, 4)
    given = Conditioning(context.context, residuals=(*skips, middle))
    plain = model.predict(x, level, context)
    assert not torch.allclose(model.predict(x, level, given), plain)
    zeros = Conditioning(context.context, residuals=tuple(torch.zeros_like(r) for r in given.residuals))
    assert torch.equal(model.predict(x, level, zeros), plain)
    # The middle's own: the same as a hook that adds it to what the mid level returns.
    hook = model.unet.mid.register_forward_hook(lambda _, args, out: out + middle)
    expected = model.predict(x, level, context)
    hook.remove()
    only = Conditioning(context.context, residuals=(*(torch.zeros_like(s) for s in skips), middle))
    torch.testing.assert_close(model.predict(x, level, only), expected, rtol=0, atol=1e-14)
    # The last skip's: the same as a hook that adds it to what the lowest level hands over and returns.
    with pytest.raises(LdmError, match="2 residuals; expected one for each of the 4 skips"):
        model.predict(x, level, Conditioning(context.context, residuals=(skips[0], middle)))


def test_gradients_flow_through_an_evaluation_and_the_decoder(model, draw):
    x = draw(1, 4, 8, 8).requires_grad_()
    cond, uncond = model.encode_text(["red dog"]), model.encode_text(["dog"])
    cond = Conditioning(cond.context.requires_grad_())
    x0, _ = model.denoiser(cond, uncond, guidance=3.0)(x, model.levels(2, "ddim")[0])
    model.decode_pixels(x0).square().sum().backward()
    assert x.grad.abs().sum() > 0 and cond.context.grad.abs().sum() > 0


def test_a_loaded_model_is_frozen_so_that_steps_keep_no_graph(tmp_path):
    model = ldm.load("tiny")
    assert not any(p.requires_grad for p in model.parameters())
    noise_fn, levels = model.noise_fn([1], (64, 64)), model.levels(1, "ddim")
    denoise = model.denoiser(model.encode_text(["a dog"]), model.encode_text([""]), 2.0)
    [step] = model.sample(noise_fn(), denoise, noise_fn, "ddim", levels)
    assert torch.is_grad_enabled() and not step.x_prev.requires_grad
    clip, _ = ldm.load_clip("tiny")
    assert not any(p.requires_grad for p in clip.parameters())


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def similarities(names, x):
    clip, tokenizer = names["clip"], names["tokenizer"]
    with torch.no_grad():
        pixels = fit(names["model"].decode_pixels(x), clip.image_size)
        return clip.similarity(pixels, tokenizer(["a cat", "a dog"]))[0].tolist()


def test_clips_image_encoder_steers_a_prompt_that_says_nothing(tmp_path, monkeypatch):
    r"""The page's example, in 8 steps: with its gradient the image is a cat, without it is not."""
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("import ldm\nmodel = ldm.load('tiny')", names)
    [steps] = [code for code in blocks() if "noise_fn = model.noise_fn" in code]
    exec(steps.partition("for step")[0].replace("levels(20", "levels(8").replace("[7]", "[1]"), names)
    [steering] = [code for code in blocks() if "def steered" in code]
    exec(steering, names)
    cat, dog = similarities(names, names["x"])
    exec(steering.rpartition("\n\n\n")[2].replace("steered", "plain"), names)
    cat_unsteered, _ = similarities(names, names["x"])
    assert cat > dog and cat > cat_unsteered + 0.3


@pytest.mark.long
def test_every_block_of_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks():
        exec(code, names)
    assert [len(names[name]) for name in ("seeds", "pairs", "mixed", "few")] == [3, 2, 1, 1]
    assert names["pixels"].shape == (1, 3, 128, 128) and names["image"].size == (128, 128)
    cat, dog = similarities(names, names["x"])
    assert cat > dog + 0.3 and (tmp_path / "dog.png").exists()
