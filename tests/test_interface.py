r"""The Python interface: what can be taken out of `generate` and put in, and docs/python.md, which shows it."""

import re
from dataclasses import replace
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
from ldm.text.image import preprocess_pixels
from tests.small import CONFIG, TOKENIZER

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


MASKED = {"init": Image.new("RGB", (16, 16), "red"), "mask": Image.new("L", (16, 16), 255)}


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
        ({"output": "latent", "keep_pixels": True, **MASKED}, 'keep_pixels with output="latent"'),
        ({"steps": []}, "expected decreasing numbers"),
        ({"steps": [500, 500]}, "expected decreasing numbers"),
        ({"steps": [1000, 1]}, "expected decreasing numbers between 999 and 0"),
        ({"steps": [500, -1]}, "expected decreasing numbers"),
        ({"steps": [999.5, 1]}, "expected decreasing numbers"),
        ({"steps": [500, -0.3]}, "expected decreasing numbers"),
        ({"steps": [500], "spacing": "leading"}, "the spacing 'leading' and a list of timesteps"),
        ({"spacing": "sideways"}, "timestep spacing 'sideways'; expected one of leading"),
        (
            {"prompt": Conditioning(torch.zeros(1, 64, 16).double())},
            "encode prompt and negative prompt together",
        ),
    ],
)
def test_what_does_not_fit_together_is_an_error(model, options, message):
    with pytest.raises(LdmError, match=message):
        model.generate(**{"prompt": "red dog", "seed": 1} | options)


def test_latents_take_the_place_of_the_seeds_first_noise(model):
    noise = model.noise_source([7, 8], (24, 16))()
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


def test_clip_skip_holds_for_the_prompt_and_the_negative_prompt(randomise):
    config = replace(CONFIG, text=replace(CONFIG.text, layers=2))
    model = randomise(LatentDiffusion(config, TOKENIZER)).requires_grad_(False).double()
    cond, uncond = (model.encode_text([text], clip_skip=2) for text in ("red dog", "dog"))
    skipped = latent(model, clip_skip=2)
    torch.testing.assert_close(skipped, latent(model, cond, uncond), rtol=0, atol=1e-12)
    for halfway in ((cond, model.encode_text(["dog"])), (model.encode_text(["red dog"]), uncond)):
        assert not torch.allclose(skipped, latent(model, *halfway))
    for given in ((cond, "dog"), ("red dog", uncond)):
        with pytest.raises(LdmError, match="a clip_skip of 2 with prompts that are encoded already"):
            latent(model, *given, clip_skip=2)


def test_a_conditioning_of_two_is_cut_and_joined(draw):
    whole = Conditioning(draw(2, 3, 4), draw(1, 5, 2, 2), lambda x_t, level, context: [])
    joined = concatenate(whole[:1], whole[1:])
    assert torch.equal(joined.context, whole.context) and joined.residuals is whole.residuals
    assert torch.equal(joined.channels, whole.channels.expand(2, -1, -1, -1))
    with pytest.raises(LdmError, match="a conditioning for 2 images, used with 3; expected one for 1 or 3"):
        whole.expand(3)
    others = {
        "channels": Conditioning(whole.context, residuals=whole.residuals),
        "micro, pooled": replace(whole, pooled=draw(2, 3), micro=draw(2, 6)),
    }
    for what, other in others.items():
        with pytest.raises(LdmError, match=f"differ in {what}; expected the same"):
            concatenate(whole, other)


def test_pooled_texts_and_numbers_are_cut_and_joined_like_contexts(draw):
    whole = Conditioning(draw(2, 3, 4), pooled=draw(2, 5), micro=draw(1, 6))
    joined = concatenate(whole[:1], whole[1:])
    assert torch.equal(joined.pooled, whole.pooled) and joined.micro.shape == (2, 6)
    assert whole[1:].expand(3).pooled.shape == (3, 5)


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


def test_large_images_are_decoded_in_tiles_unasked_and_others_as_asked(model, monkeypatch):
    monkeypatch.setattr("ldm.vae.tiles.LARGE", 16 * 24)
    asked = []
    monkeypatch.setattr(model, "decode_pixels", lambda x, tile: asked.append(tile) or torch.zeros(1, 3, 8, 8))
    for size, tile in (((16, 24), None), ((16, 16), None), ((16, 24), False), ((16, 16), True)):
        model.generate("dog", size=size, tile=tile, seed=1, steps=1)
    assert asked == [True, False, False, True]


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
    assert [level.t for level in model.levels("euler", [900.0, 450.5, 0])] == [900, 450.5, 0, 0]
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


SKIPS, MIDDLE = ((8, 8, 8), (8, 8, 8), (8, 4, 4), (16, 4, 4)), (16, 4, 4)


def test_residuals_are_computed_at_each_step_of_what_the_network_reads(model):
    seen = []

    def control(x_t, level, cond):
        seen.append((x_t.shape, level.t, cond.context.shape))
        return [x_t.new_zeros(1, *shape) for shape in (*SKIPS, MIDDLE)]

    cond, uncond = (replace(model.encode_text([text]), residuals=control) for text in ("red dog", "dog"))
    controlled = latent(model, cond, uncond, steps=2, guidance=2.0)
    assert seen == [((2, 4, 8, 8), t, (2, 32, 16)) for t in (501, 1)]
    torch.testing.assert_close(controlled, latent(model, steps=2, guidance=2.0), rtol=0, atol=1e-12)


def test_what_is_given_is_cast_to_the_networks_dtype(randomise):
    model = randomise(LatentDiffusion(CONFIG, TOKENIZER)).bfloat16()
    context = Conditioning(model.encode_text(["red dog"]).context.float())
    assert latent(model, context, seed=1).dtype == torch.float32


def test_an_inpainting_model_is_told_by_its_channels_and_others_take_theirs_from_the_conditioning(
    randomise, draw
):
    r"""A U-Net that reads one more channel, such as a depth map, is no inpainting model."""
    config = replace(CONFIG, unet=replace(CONFIG.unet, in_channels=5))
    model = randomise(LatentDiffusion(config, TOKENIZER)).double()
    cond, uncond = (model.encode_text([text]) for text in ("red dog", "dog"))
    near, far = (
        latent(model, *(replace(c, channels=depth) for c in (cond, uncond)))
        for depth in (draw(1, 1, 8, 8), draw(1, 1, 8, 8))
    )
    assert not torch.allclose(near, far)
    with pytest.raises(LdmError, match="this U-Net takes 5"):
        latent(model)


def test_savings_change_an_image_and_reuse_of_1_does_not(model):
    options = {"steps": 4, "guidance": 3.0, "seed": 5, "output": "tensor"}
    plain = model.generate("red dog", **options)
    assert torch.equal(model.generate("red dog", reuse=1, **options), plain)
    assert torch.equal(model.generate("red dog", guidance_interval=(0.0, 1e9), **options), plain)
    for saving in ({"reuse": 2}, {"guidance_interval": (0.0, 1.0)}):
        assert not torch.equal(model.generate("red dog", **saving, **options), plain)


def test_each_group_of_prompts_reuses_its_own_features(model):
    options = {"steps": 4, "guidance": 3.0, "seed": [5, 6], "output": "tensor", "reuse": 2}
    together = model.generate(["red dog", "dog " * 90], long_prompt="chunk", **options)
    for i, (prompt, seed) in enumerate((("red dog", 5), ("dog " * 90, 6))):
        alone = model.generate(prompt, long_prompt="chunk", **options | {"seed": seed})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-10)


def test_a_loaded_model_is_frozen_so_that_steps_keep_no_graph(tmp_path):
    model = ldm.load("tiny")
    assert not any(p.requires_grad for p in model.parameters())
    noise_fn, levels = model.noise_source([1], (64, 64)), model.levels("ddim", 1)
    denoise = model.denoiser(model.encode_text(["a dog"]), model.encode_text([""]), 2.0)
    [step] = model.sample("ddim", denoise, noise_fn(), levels, noise_fn)
    assert torch.is_grad_enabled() and not step.x_prev.requires_grad
    clip, _ = ldm.load_clip("tiny")
    assert not any(p.requires_grad for p in clip.parameters())


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def similarities(names, x):
    clip, tokenizer = names["clip"], names["tokenizer"]
    with torch.no_grad():
        pixels = preprocess_pixels(names["model"].decode_pixels(x), clip.image_size)
        return clip.similarity(pixels, tokenizer(["a forest", "a sea"]))[0].tolist()


@pytest.mark.long
def test_clips_image_encoder_steers_a_prompt_that_says_nothing(tmp_path, monkeypatch):
    r"""The page's example as it stands: with its gradient the image is a forest, without it is not."""
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("import ldm\nmodel = ldm.load('tiny')", names)
    [steps] = [code for code in blocks() if "denoise = model.denoiser" in code]
    exec(steps.partition("for step")[0], names)
    [steering] = [code for code in blocks() if "def steered" in code]
    exec(steering, names)
    forest, sea = similarities(names, names["x"])
    exec(steering.rpartition("\n\n\n")[2].replace("steered", "plain"), names)
    forest_unsteered, sea_unsteered = similarities(names, names["x"])
    assert forest > sea + 0.3 and forest > forest_unsteered + 0.2
    assert forest_unsteered < sea_unsteered


@pytest.mark.long
def test_every_block_of_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks():
        exec(code, names)
    assert [len(names[name]) for name in ("seeds", "pairs", "mixed", "near")] == [3, 2, 1, 1]
    assert names["pixels"].shape == (1, 3, 128, 128) and names["image"].size == (128, 128)
    forest, sea = similarities(names, names["x"])
    assert forest > sea + 0.3 and (tmp_path / "dog.png").exists()
