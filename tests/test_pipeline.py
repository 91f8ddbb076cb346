r"""The pipeline, with a model too small to paint anything: what must hold for any weights."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.config import Config, Defaults, NoiseConfig, TextConfig, UNetConfig, UNetLevel, VAEConfig
from ldm.diffusion.guidance import classifier_free_guidance, rescale_guidance
from ldm.diffusion.level import vp_level
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import make_alpha_bar
from ldm.errors import LdmError
from ldm.images.pixels import to_images, to_pixels
from ldm.images.reading import fit_mask, fit_picture
from ldm.inpaint import masked_image
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from ldm.vae.tiles import TILE

MERGES = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>")]  # "red" and "dog" are one piece each


def small_model(randomise, prediction="eps", in_channels=4):
    tokenizer = Tokenizer(MERGES, context_length=6)
    config = Config(
        name="small",
        text=TextConfig(tokenizer.vocab_size, 6, width=8, layers=1, heads=2, activation="quick_gelu"),
        vae=VAEConfig(channels=(4, 8), res_per_level=1, latent_channels=4, scale=0.5, groups=2),
        unet=UNetConfig(
            (UNetLevel(8, 2, 0), UNetLevel(8, 2, 1)),
            context_width=8,
            in_channels=in_channels,
            res_per_level=1,
            groups=4,
        ),
        noise=NoiseConfig(prediction=prediction),
        defaults=Defaults(size=8, steps=3, guidance=2.0),
    )
    return randomise(LatentDiffusion(config, tokenizer)).float()


@pytest.fixture
def model(randomise):
    return small_model(randomise)


def array(images):
    return np.stack([np.asarray(image) for image in images]).astype(int)


def each_or_long(*quick):
    r"""Every sampler; those that are not named are soaks."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.long) for name in SAMPLERS]


def same(a, b):
    return (array(a) == array(b)).all()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_same_seed_paints_the_same_picture_and_another_seed_another(model, sampler):
    first, again, other = (model.generate("red dog", seed=s, sampler=sampler) for s in (7, 7, 8))
    assert same(first, again) and not same(first, other)


@pytest.mark.parametrize("options", [{}, {"init": Image.new("RGB", (8, 8), "red")}], ids=["text", "picture"])
@pytest.mark.parametrize("sampler", each_or_long("ddim", "ddpm"))
def test_picture_i_of_a_batch_is_the_picture_of_seed_plus_i(model, sampler, options):
    batch = model.generate("red dog", seed=7, batch=8, sampler=sampler, **options)
    alone = [model.generate("red dog", seed=7 + i, sampler=sampler, **options)[0] for i in range(8)]
    assert np.abs(array(batch) - array(alone)).max() <= 1  # of 255: float32 sums differ in their last bits


DIFFERENT = ["red dog red dog dog", "dog", "(red:1.5) dog", "", "dog red " * 5, "red"]  # room for four words


# A sampler that draws noise, one that evaluates twice and one that remembers.
@pytest.mark.parametrize("sampler", each_or_long("euler_ancestral", "heun", "dpmpp_2m"))
def test_a_picture_depends_on_its_own_prompt_and_seed_alone(randomise, sampler):
    model, options = small_model(randomise).double(), {"sampler": sampler, "steps": 6, "long_prompt": "chunk"}
    batch = model.generate(DIFFERENT, "dog", seed=7, **options)
    alone = [model.generate(prompt, "dog", seed=7 + i, **options)[0] for i, prompt in enumerate(DIFFERENT)]
    assert same(batch, alone)


@pytest.mark.parametrize(
    "options",
    [
        {"negative": "red red red red red dog"},  # two chunks, and more than most of the prompts have
        {"guidance": 1.0},
        {"init": Image.new("RGB", (8, 8), "red"), "strength": 0.7},
        {"init": Image.new("RGB", (8, 8), "red"), "mask": Image.new("L", (8, 8), 255)},
        {"size": (160, 8), "tile": True},
    ],
    ids=["negative", "no guidance", "picture", "mask", "tiles"],
)
def test_a_picture_does_not_depend_on_its_neighbours_whatever_is_asked_for(randomise, options):
    model = small_model(randomise).double()
    model.config = replace(model.config, defaults=replace(model.config.defaults, guidance_rescale=0.7))
    batch = model.generate(DIFFERENT, seed=7, long_prompt="chunk", **options)
    alone = [
        model.generate(p, seed=7 + i, long_prompt="chunk", **options)[0] for i, p in enumerate(DIFFERENT)
    ]
    assert same(batch, alone)


def test_several_prompts_make_one_picture_of_each(model):
    together = model.generate(["red dog", "dog", "red"], "dog", seed=7)
    alone = [model.generate(p, "dog", seed=7 + i)[0] for i, p in enumerate(("red dog", "dog", "red"))]
    assert len(together) == 3 and np.abs(array(together) - array(alone)).max() <= 1
    assert not same(together[:1], model.generate("dog", "dog", seed=7))
    with pytest.raises(LdmError, match="a batch of 0 images"):
        model.generate([])


@pytest.mark.parametrize("options", [{}, {"init": Image.new("RGB", (8, 8), "red")}], ids=["text", "picture"])
def test_a_picture_no_larger_than_a_tile_is_the_same_in_tiles(model, options):
    whole, tiled = (model.generate("red dog", seed=7, tile=tile, **options) for tile in (False, True))
    assert same(whole, tiled)


@pytest.mark.parametrize("with_mask", [False, True])
def test_with_tile_the_vae_never_sees_more_than_a_tile(model, with_mask):
    seen = []
    for part in (model.vae.encoder, model.vae.decoder.up[0]):
        part.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    init = Image.new("RGB", (160, 20), "red")
    mask = {"mask": Image.new("L", (160, 20), 255)} if with_mask else {}
    [image] = model.generate("red dog", seed=7, size=(160, 20), tile=True, init=init, **mask)
    assert image.size == (160, 20)
    # A small version, then 80 latents in two tiles, the first time as twice as many pixels; with a mask the picture
    # itself is decoded as well.
    channels = model.config.vae.channels[-1]
    assert seen == [(1, 3, 20, 2 * TILE)] * 3 + [(1, channels, 10, TILE)] * (6 if with_mask else 3)


def test_without_a_seed_every_picture_is_new(model):
    assert not same(model.generate("red dog"), model.generate("red dog"))


@pytest.mark.parametrize("size", [None, (24, 10), (2, 6)])
def test_pictures_have_the_size_asked_for(model, size):
    # Width first, as in every picture program; 24 x 10 is 12 x 5 latents, and the U-Net halves the 5.
    [image] = model.generate("red dog", size=size, seed=1)
    assert image.size == (size or (8, 8)) and image.mode == "RGB"


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_a_picture_is_the_four_steps_written_out(randomise, prediction):
    r"""DDIM in 4 steps of 1000 (t = 751, 501, 251, 1), guidance 3, a negative prompt, in float64."""
    model = small_model(randomise, prediction).double()
    vocab, bos, eos = model.tokenizer.vocab, model.tokenizer.bos, model.tokenizer.eos
    red, dog = vocab["red</w>"], vocab["dog</w>"]
    ids = torch.tensor([[bos, red, dog, eos, eos, eos], [bos, dog, eos, eos, eos, eos]])
    prompt, negative = model.text(ids)
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(5)).double()[None]
    alpha_bar = make_alpha_bar(model.config.noise).double()
    for t in (751, 501, 251, 1):
        level = alpha_bar[t]
        with_prompt, with_negative = (
            model.unet(x, torch.tensor([t]), context[None]) for context in (prompt, negative)
        )
        out = 3 * with_prompt - 2 * with_negative
        a, s = level.sqrt(), (1 - level).sqrt()
        if prediction == "eps":
            x0, eps = (x - s * out) / a, out
        elif prediction == "v":
            x0, eps = a * x - s * out, s * x + a * out
        else:
            x0, eps = out, (x - a * out) / s
        to = alpha_bar[max(t - 250, 0)]
        x = to.sqrt() * x0 + (1 - to).sqrt() * eps
    expected = to_images(model.vae.decoder(x / 0.5))
    images = model.generate("red dog", "dog", steps=4, guidance=3.0, sampler="ddim", seed=5, size=(6, 4))
    assert same(images, expected)


def watch_unet(model):
    seen = []
    model.unet.register_forward_pre_hook(lambda _, args: seen.append(args))
    return seen


def test_with_guidance_both_prompts_go_through_in_one_batch_the_negative_first(model):
    seen = watch_unet(model)
    model.generate("red dog", "dog", steps=2, guidance=2.0, batch=3, seed=1)
    assert len(seen) == 2
    x, _, context = seen[0]
    assert len(x) == len(context) == 6 and torch.equal(x[:3], x[3:])
    expected = model.encode_text(["dog"] * 3 + ["red dog"] * 3).context
    torch.testing.assert_close(context, expected)


def test_with_guidance_1_the_negative_prompt_costs_nothing_and_changes_nothing(model):
    seen = watch_unet(model)
    plain = model.generate("red dog", guidance=1.0, steps=2, batch=2, seed=1)
    assert [len(x) for x, _, _ in seen] == [2, 2]
    assert same(plain, model.generate("red dog", "dog", guidance=1.0, steps=2, batch=2, seed=1))
    nearly = model.generate("red dog", "dog", guidance=1 + 1e-6, steps=2, batch=2, seed=1)
    assert np.abs(array(nearly) - array(plain)).max() <= 1


def test_with_guidance_0_only_the_negative_prompt_counts(model):
    ignored = [model.generate(prompt, "dog", guidance=0.0, seed=1) for prompt in ("red dog", "red")]
    assert same(*ignored)
    swapped = model.generate("dog", guidance=1.0, seed=1)
    assert np.abs(array(ignored[0]) - array(swapped)).max() <= 1


def test_prompt_negative_and_guidance_all_matter(model):
    variants = [
        model.generate("red dog", seed=1),
        model.generate("red", seed=1),
        model.generate("red dog", "dog", seed=1),
        model.generate("red dog", guidance=4.0, seed=1),
    ]
    assert not any(same(a, b) for a, b in itertools.combinations(variants, 2))


def test_brackets_are_weights_unless_weighting_is_off(model):
    plain, louder = (model.generate(prompt, seed=1, steps=2) for prompt in ("red dog", "red (dog:3)"))
    assert not same(plain, louder)
    assert same(plain, model.generate("red (dog:1)", seed=1, steps=2))
    literal = model.generate("red (dog)", seed=1, steps=2, weighting=False)
    assert not same(literal, louder) and not same(literal, plain)


def test_a_long_prompt_is_read_whole_in_chunks_and_the_negative_has_as_many(model):
    seen, prompt = watch_unet(model), "red dog red dog dog"  # room for four words
    with pytest.warns(UserWarning, match="these words are cut off: 'dog'"):
        cut = model.generate(prompt, seed=1, steps=1)
    whole = model.generate(prompt, "dog", seed=1, steps=1, batch=2, long_prompt="chunk")
    assert [context.shape for _, _, context in seen] == [(2, 6, 8), (4, 12, 8)]
    assert not same(cut, whole[:1])


def test_what_is_left_out_is_the_models_default(model):
    default = model.generate("red dog", seed=1)
    spelled = model.generate(
        "red dog", "", steps=3, guidance=2.0, sampler="ddim", seed=1, size=(8, 8), batch=1
    )
    assert same(default, spelled)


def test_progress_is_given_the_steps_and_their_number(model):
    told = []

    def progress(path, count):
        told.append(count)
        for step in path:
            told.append(step.level.t)
            yield step

    watched = model.generate("red dog", seed=1, progress=progress)
    assert told == [3, 667, 334, 1]  # every 333, and an offset of 1
    assert same(watched, model.generate("red dog", seed=1))


def test_ddpm_ends_at_timestep_0_and_draws_new_noise(model):
    steps = []

    def progress(path, count):
        for step in path:
            steps.append(step)
            yield step

    model.generate("red dog", seed=1, sampler="ddpm", progress=progress)
    assert [step.level.t for step in steps] == [666, 333, 0]
    assert not same(model.generate("red dog", seed=1, sampler="ddpm"), model.generate("red dog", seed=1))


def test_a_sampler_that_needs_more_steps_than_the_models_default_takes_them(model):
    told = []
    for options in ({"sampler": "PLMS"}, {"sampler": "euler"}, {"sampler": "plms", "steps": 4}):
        model.generate("red dog", seed=1, progress=steps_of(told), **options)
    assert [count for count in told if isinstance(count, int)] == [40, 3, 4]
    own = replace(model.config, defaults=replace(model.config.defaults, sampler="plms", steps=9))
    for config, name, steps in (
        (own, "plms", 9),  # chosen together by whoever made the model
        (own, "lms", 40),
        (replace(own, noise=NoiseConfig(steps=30)), "lms", 29),  # as many as its schedule has
        (replace(own, defaults=Defaults(size=8)), "plms", 50),
    ):
        model.config = config
        assert model.default_steps(name) == steps


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_every_sampler_paints_and_the_network_is_told_the_time_of_each_step(randomise, sampler, prediction):
    model, times, steps = small_model(randomise, prediction), [], []
    model.unet.register_forward_pre_hook(lambda _, args: times.append(args[1].item()))

    def progress(path, count):
        for step in path:
            steps.append(step)
            yield step

    [image] = model.generate("red dog", seed=1, sampler=sampler, steps=4, progress=progress)
    assert image.size == (8, 8) and len(steps) == 4
    twice = {"heun": [0, 1, 1, 2, 2, 3, 3], "plms": [0, 1, 1, 2, 3]}.get(
        sampler.removesuffix("_karras"), range(4)
    )
    if sampler.startswith("dpmpp_sde"):  # the times halfway are another matter
        assert len(times) == 7
        times = times[::2]
    assert times == pytest.approx([steps[i].level.t for i in twice])


@pytest.mark.parametrize("sampler", each_or_long("ddim", "euler_ancestral", "dpmpp_2m_karras", "plms"))
@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_with_zero_terminal_snr_half_precision_paints_what_float64_does(randomise, sampler, dtype, error):
    model, latents = small_model(randomise, "v"), {}
    model.config = replace(model.config, noise=NoiseConfig(prediction="v", zero_snr=True))
    # Every other one behind a mask, where the picture's latent is put back after each step.
    repainted = (dtype is torch.float16) == (len(sampler) % 2 == 0)
    options = {"init": colours(), "mask": left_half()} if repainted else {}

    def progress(path, count):
        for step in path:
            latents[model.dtype] = step.x_prev
            yield step

    for kind in (dtype, torch.float64):
        model.to(kind)
        model.generate("red dog", seed=1, sampler=sampler, steps=8, progress=progress, **options)
    half, exact = latents[dtype], latents[torch.float64]
    assert half.dtype == torch.float32  # the sampler's state; only the networks compute in half precision
    assert ((half.double() - exact).norm() / exact.norm()).item() < error


def test_euler_is_fed_and_read_at_levels_between_timesteps(randomise):
    r"""Three steps of 1000, t = 999, 499.5 and 0, written out in sigmas, in float64."""
    model = small_model(randomise).double()
    context = model.encode_text(["red dog"]).context
    alpha_bar = make_alpha_bar(model.config.noise).double()
    table = ((1 - alpha_bar) / alpha_bar).sqrt()
    sigmas = [table[999], (table[499] + table[500]) / 2, table[0], torch.tensor(0.0).double()]
    noise_fn = model.noise_source([5], (6, 4))
    y = noise_fn() * sigmas[0]
    for t, sigma, sigma_prev in zip((999.0, 499.5, 0.0), sigmas, sigmas[1:]):
        eps = model.unet(y / (sigma**2 + 1).sqrt(), torch.tensor([t]), context)
        y = y + (sigma_prev - sigma) * eps
    images = model.generate("red dog", steps=3, guidance=1.0, sampler="Euler", seed=5, size=(6, 4))
    assert same(images, to_images(model.vae.decoder(y / 0.5)))


def test_a_model_may_ask_for_less_of_guidances_contrast(randomise):
    model = small_model(randomise, "v")
    plain = model.generate("red dog", seed=1, guidance=5.0)
    model.config = replace(model.config, defaults=replace(model.config.defaults, guidance_rescale=0.7))
    assert not same(model.generate("red dog", seed=1, guidance=5.0), plain)
    noise_fn = model.noise_source([1], (8, 8))
    x_t, both = noise_fn(), model.encode_text(["red dog", ""])
    level = vp_level(500, model.alpha_bar())
    out = [model.unet(x_t, torch.tensor(500), context) for context in both.context.split(1)]
    guided = rescale_guidance(classifier_free_guidance(out[1], out[0], 5.0), out[0], 0.7)
    expected = x0_and_eps("v", guided, x_t, level)
    denoise = model.denoiser(both[:1], both[1:], 5.0)
    torch.testing.assert_close(denoise(x_t, level), expected, rtol=1e-4, atol=1e-5)


def test_generating_leaves_gradients_and_the_global_generator_alone(model):
    state = torch.get_rng_state()
    model.generate("red dog", seed=1)
    assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


# --- beginning with a picture ------------------------------------------------------------------------------


def colours(size=(8, 8), seed=0) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def left_half(size=(8, 8)) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def reconstruction(model, picture) -> np.ndarray:
    with torch.no_grad():
        mean, _ = model.vae.encode(to_pixels([picture]).to(model.dtype))
        return array(to_images(model.vae.decode(mean)))[0]


def steps_of(told):
    def progress(path, count):
        told.append(count)
        for step in path:
            told.append(step)
            yield step

    return progress


@pytest.mark.parametrize("masked", [False, True])
def test_beginning_with_a_picture_is_its_steps_written_out(randomise, masked):
    r"""DDIM, the last 2 of 4 steps (t = 251, 1), no guidance, in float64; the noise is the seed's first."""
    model = small_model(randomise).double()
    init, alpha_bar = colours((6, 4)), make_alpha_bar(model.config.noise).double()
    context = model.encode_text(["red dog"]).context
    x0 = model.vae.encode(to_pixels([init]).double())[0]
    eps = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(5)).double()[None]
    mask = Image.new("L", (6, 4))
    mask.putpixel((1, 3), 255)  # of the 3 x 2 latents the one at x = 0, y = 1
    repaint = torch.tensor([[0, 0, 0], [1, 0, 0]]).double()

    def noised(level):
        return level.sqrt() * x0 + (1 - level).sqrt() * eps

    x = noised(alpha_bar[251])
    for t, to in ((251, alpha_bar[1]), (1, alpha_bar[0])):
        a, s = alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()
        out = model.unet(x, torch.tensor([t]), context)
        x = to.sqrt() * (x - s * out) / a + (1 - to).sqrt() * out
        if masked:
            x = repaint * x + (1 - repaint) * (noised(to) if t == 251 else x0)
    [expected] = array(to_images(model.vae.decode(x)))
    if masked:
        white = array([mask])[0][..., None] == 255
        expected = np.where(white, expected, reconstruction(model, init))
    told = []
    options = {"mask": mask} if masked else {}
    options |= {"steps": 4, "guidance": 1.0, "seed": 5, "size": (6, 4), "progress": steps_of(told)}
    [image] = model.generate("red dog", init=init, strength=0.5, **options)
    assert (np.asarray(image) == expected).all()
    assert told[0] == 2 and [step.level.t for step in told[1:]] == [251, 1]


def test_the_less_strength_the_closer_to_the_picture(model):
    init = colours()
    expected = reconstruction(model, init)
    apart = [
        np.abs(array(model.generate("red dog", steps=50, seed=1, init=init, strength=s))[0] - expected).mean()
        for s in (0.02, 0.3, 1.0)
    ]
    assert 3 * apart[0] < apart[1] < apart[2]


def test_the_picture_the_seed_and_the_prompt_all_matter(model):
    given = {"seed": 1, "init": colours(), "steps": 4}
    variants = [
        model.generate("red dog", **given),
        model.generate("red", **given),
        model.generate("red dog", **given | {"seed": 2}),
        model.generate("red dog", **given | {"init": colours(seed=1)}),
        model.generate("red dog", **given | {"init": None}),
    ]
    assert not any(same(a, b) for a, b in itertools.combinations(variants, 2))


def test_the_strength_left_out_is_three_quarters_or_with_a_mask_all(model):
    told = []
    for options in ({"init": colours()}, {"init": colours(), "mask": left_half()}):
        model.generate("red dog", seed=1, steps=20, progress=steps_of(told), **options)
    assert [count for count in told if isinstance(count, int)] == [15, 20]


def test_at_full_strength_behind_a_mask_nothing_shines_through(model):
    init, other = colours((12, 8)), colours((12, 8))
    other.paste("blue", (0, 0, 4, 8))
    masked = [model.init_image(picture, left_half((12, 8)), (12, 8)) for picture in (init, other)]
    eps = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    levels = model.levels("ddim", 3)
    begun = [model.initial_latents("ddim", eps, levels, start, 1.0) for start in masked]
    assert torch.equal(begun[0], eps) and torch.equal(begun[1], eps)
    assert not torch.equal(model.initial_latents("ddim", eps, levels, masked[0], 0.9), eps)
    unmasked = model.init_image(init, None, (12, 8))
    assert not torch.equal(model.initial_latents("ddim", eps, levels, unmasked, 1.0), eps)


@pytest.mark.parametrize(
    "sampler", each_or_long(*(name for name in SAMPLERS if not name.endswith(("_karras", "sde"))))
)
@pytest.mark.parametrize("strength", [pytest.param(0.5, marks=pytest.mark.long), 1.0])
def test_what_is_kept_is_the_reconstruction_or_the_picture_to_the_pixel(model, sampler, strength):
    init, mask = colours(), Image.new("L", (8, 8))
    mask.paste(255, (1, 2, 5, 5))  # its edges do not lie on latents
    white = np.asarray(mask) == 255
    options = {"seed": 1, "steps": 4, "sampler": sampler, "batch": 2, "init": init, "mask": mask}
    for keep_pixels, expected in ((False, reconstruction(model, init)), (True, array([init])[0])):
        images = array(model.generate("red dog", strength=strength, keep_pixels=keep_pixels, **options))
        for image in images:
            assert (image[~white] == expected[~white]).all()
            assert np.abs(image[white] - expected[white]).mean() > 1
        assert (images[0] != images[1])[white].any()


def test_after_every_step_what_is_kept_is_the_picture_under_the_same_noise_at_the_new_level(model):
    init, told = colours(), []
    alpha_bar = model.alpha_bar()
    model.generate("red dog", seed=3, steps=4, init=init, mask=left_half(), progress=steps_of(told))
    x0 = model.encode_image(to_pixels([init]))
    eps = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(3))[None]
    for step, level in zip(told[1:], alpha_bar[[501, 251, 1, 0]], strict=True):
        kept = level.sqrt() * x0 + (1 - level).sqrt() * eps
        torch.testing.assert_close(step.x_prev[..., 2:], kept[..., 2:])
        assert not torch.allclose(step.x_prev[..., :2], kept[..., :2], atol=0.1)


def test_only_pure_noise_is_warned_of_at_a_level_that_is_none(model):
    options = {"seed": 1, "steps": 3, "sampler": "ddim", "size": (8, 8)}
    for given in ({}, {"init": colours(), "mask": left_half()}):
        with pytest.warns(UserWarning, match="starts from pure noise"):
            model.generate("red dog", **options, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for strength in (0.7, 1.0):
            model.generate("red dog", **options, init=colours(), strength=strength)


def test_a_white_mask_keeps_nothing(model):
    options = {"seed": 1, "init": colours()}
    white = model.generate("red dog", mask=Image.new("L", (8, 8), 255), **options)
    # From pure noise, so the picture does not matter at all.
    assert same(white, model.generate("red dog", seed=1))


@pytest.mark.parametrize("size", [None, (12, 6)])
def test_pictures_and_masks_of_any_size_and_mode_are_fitted(model, size):
    init, mask = colours((21, 33)).convert("P"), left_half((42, 66)).convert("1")
    fitted = {"init": fit_picture(init, size or (8, 8)), "mask": fit_mask(mask, size or (8, 8))}
    before = init.tobytes(), mask.tobytes()
    assert same(
        model.generate("red dog", seed=1, size=size, init=init, mask=mask),
        model.generate("red dog", seed=1, size=size, **fitted),
    )
    assert (init.tobytes(), mask.tobytes()) == before and init.mode == "P" and mask.mode == "1"


def test_the_latent_of_a_picture_is_the_same_each_time_and_draws_no_noise(model):
    state = torch.get_rng_state()
    first, again = (model.encode_image(to_pixels([colours()])) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "a strength of 0.0; expected more than 0"),
        ({"strength": 1.5}, "a strength of 1.5; expected more than 0"),
        ({"strength": 0.3}, "a strength of 0.3 leaves none of 3 steps; give at least 0.334, or more steps"),
        ({"mask": Image.new("L", (8, 8))}, "all black: nothing to repaint"),
        ({"init": None, "mask": left_half()}, "a mask, but no init image"),
        ({"init": None, "strength": 0.5}, "a strength of 0.5, but no init image"),
        ({"keep_pixels": True}, "keep_pixels, but no mask"),
        ({"size": (9, 8)}, "a size of 9x8 pixels"),
        ({"size": (0, 8)}, "a size of 0x8 pixels"),
    ],
)
def test_a_picture_that_the_model_cannot_begin_with_is_an_error(model, options, message):
    with pytest.raises(LdmError, match=message):
        model.generate("red dog", seed=1, **{"init": colours()} | options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_picture_can_be_repainted_in_other_precisions(randomise, dtype):
    model = small_model(randomise).to(dtype)
    [image] = model.generate("red dog", seed=1, init=colours(), mask=left_half(), strength=0.7)
    assert (array([image])[0][:, 4:] == reconstruction(model, colours())[:, 4:]).all()


# --- a model that was trained to fill holes ---------------------------------------------------------------


@pytest.fixture
def filler(randomise):
    return small_model(randomise, in_channels=9)


def uneven(size=(8, 8)) -> Image.Image:
    r"""A mask whose edges do not lie on latents."""
    mask = Image.new("L", size)
    mask.paste(255, (1, 0, 5, 5))
    return mask


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_inpainting_model_is_its_steps_written_out(randomise, strength):
    r"""DDIM, 4 steps or the last 2 of them, guidance 3, in float64; nothing is put back before the end."""
    model = small_model(randomise, in_channels=9).double()
    init, mask, alpha_bar = colours((6, 4)), uneven((6, 4)), make_alpha_bar(model.config.noise).double()
    context = model.encode_text(["red dog", "dog"]).context
    white = torch.from_numpy(np.asarray(mask) == 255)
    pixels = to_pixels([init]).double()
    rest = model.vae.encode(pixels * ~white)[0]
    read = torch.tensor([[[[0, 1, 1], [0, 1, 1]]]]).double()  # the mask at x = 0, 2, 4 and y = 0, 2
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(5)).double()[None]
    times = (751, 501, 251, 1)[4 - int(4 * strength) :]
    if strength < 1:
        level = alpha_bar[times[0]]
        x = level.sqrt() * model.vae.encode(pixels)[0] + (1 - level).sqrt() * x
    for t in times:
        seen = torch.cat([x, read, rest], dim=1)
        cond, uncond = (model.unet(seen, torch.tensor([t]), c[None]) for c in context)
        out = 3 * cond - 2 * uncond
        a, s, to = alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt(), alpha_bar[max(t - 250, 0)]
        x = to.sqrt() * (x - s * out) / a + (1 - to).sqrt() * out
    [painted] = array(to_images(model.vae.decode(x)))
    expected = np.where(white[..., None].numpy(), painted, reconstruction(model, init))
    options = {"steps": 4, "guidance": 3.0, "seed": 5, "size": (6, 4), "init": init, "strength": strength}
    [image] = model.generate("red dog", "dog", mask=mask, **options)
    assert (np.asarray(image) == expected).all()


def test_every_evaluation_of_an_inpainting_model_has_the_same_mask_and_rest_beside_each_latent(filler):
    seen = watch_unet(filler)
    options = {"seed": 3, "batch": 2, "steps": 2, "guidance": 2.0}
    filler.generate("red dog", init=colours(), mask=uneven(), **options)
    start = filler.init_image(colours(), uneven(), (8, 8))
    assert [x.shape for x, *_ in seen] == [(4, 9, 4, 4)] * 2  # two pictures, with the prompt and without
    for x, *_ in seen:
        assert torch.equal(x[:, 4:], start.channels.expand(4, -1, -1, -1))
    assert torch.equal(
        start.channels[:, :1], torch.tensor(np.asarray(uneven())[::2, ::2] / 255)[None, None].float()
    )
    assert torch.equal(
        start.channels[:, 1:], filler.encode_image(masked_image(to_pixels([colours()]), uneven()))
    )


def test_what_an_inpainting_model_keeps_is_the_reconstruction_or_the_picture_to_the_pixel(filler):
    init, white = colours(), np.asarray(uneven()) == 255
    options = {"seed": 1, "steps": 2, "sampler": "heun", "batch": 2, "init": init, "mask": uneven()}
    for keep_pixels, expected in ((False, reconstruction(filler, init)), (True, array([init])[0])):
        for image in array(filler.generate("red dog", keep_pixels=keep_pixels, **options)):
            assert (image[~white] == expected[~white]).all()
            assert np.abs(image[white] - expected[white]).mean() > 1


def test_what_is_in_the_hole_does_not_matter_to_an_inpainting_model(filler):
    init, other = colours(), colours()
    other.paste("blue", mask=uneven())
    same_rest = [filler.init_image(picture, uneven(), (8, 8)).channels for picture in (init, other)]
    assert torch.equal(*same_rest)
    options = {"seed": 1, "steps": 3, "mask": uneven(), "keep_pixels": True}
    images = [filler.generate("red dog", init=picture, **options) for picture in (init, other)]
    assert same(*images)


@pytest.mark.parametrize("options", [{}, {"init": colours()}], ids=["nothing", "picture"])
def test_an_inpainting_model_without_a_picture_and_a_mask_is_an_error_that_asks_for_them(filler, options):
    seen = watch_unet(filler)
    with pytest.raises(
        LdmError, match="an inpainting model.* give it an image and a mask.* --init and --mask"
    ):
        filler.generate("red dog", seed=1, **options)
    assert seen == []


# --- numbers that are none ---------------------------------------------------------------------------------


def spoil(module, when=lambda: True):
    r"""Let a module answer with NaN."""
    module.register_forward_hook(lambda _, args, out: torch.full_like(out, torch.nan) if when() else None)


def test_nan_in_the_unet_is_an_error_that_names_step_and_module(model):
    times = []
    model.unet.register_forward_pre_hook(lambda _, args: times.append(args[1].item()))
    spoil(model.unet.mid.attn.layers[0].feed_forward.proj_out, when=lambda: times[-1] <= 334)
    message = r"at step 2 of 3 \(t = 334\), first from unet\.mid\.attn\.layers\.0\.feed_forward\.proj_out;"
    with pytest.raises(LdmError, match=message):
        model.generate("red dog", seed=1)
    assert times == [667, 334, 334]  # and only the bad evaluation was repeated


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ("text.norm_out", "in the text's context, first from text.norm_out;"),
        ("vae.decoder.mid.res_1", "in the decoded image, first from vae.decoder.mid.res_1;"),
        ("vae.encoder.conv_in", "in the image's latent, first from vae.encoder.conv_in;"),
    ],
)
def test_nan_in_text_encoder_and_vae_is_an_error_that_names_the_module(model, spoiled, message):
    spoil(model.get_submodule(spoiled))
    with pytest.raises(LdmError, match=message):
        model.generate("red dog", seed=1, init=colours())


def test_damaged_weights_are_named(model):
    model.unet.up[0].res[0].conv_1.weight.data[0, 0, 0, 0] = torch.inf
    message = (
        r"at step 1 of 3 \(t = 667\), first from unet\.up\.0\.res\.0\.conv_1, whose weights are not finite"
    )
    with pytest.raises(LdmError, match=message):
        model.generate("red dog", seed=1)


def test_guidance_beyond_all_bounds_is_an_error_and_not_a_black_picture(model):
    with pytest.raises(LdmError, match="at step 1 of 3 .* first from arithmetic outside all modules"):
        model.generate("red dog", "dog", seed=1, guidance=1e39)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_half_precision_paints_nearly_the_same_picture(randomise, sampler):
    # bfloat16 has no number between 0.996 and 1: a noise schedule kept in it would say "no noise" too early.
    model = small_model(randomise)
    full = model.generate("red dog", seed=1, sampler=sampler, guidance=1.0, steps=20)
    half = model.bfloat16().generate("red dog", seed=1, sampler=sampler, guidance=1.0, steps=20)
    assert np.abs(array(full) - array(half)).mean() < 12


def test_the_model_is_named_as_its_checkpoint_is(model):
    assert {name.partition(".")[0] for name in model.state_dict()} == {"text", "unet", "vae"}
    assert model.device == torch.device("cpu") and model.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "0 sampling steps; expected 1 to 1000"),
        ({"steps": 1001}, "1001 sampling steps"),
        ({"size": (9, 8)}, "a size of 9x8 pixels; both sides must be multiples of 2, such as 8x8"),
        ({"size": (0, -5)}, "a size of 0x-5 pixels; both sides must be multiples of 2, such as 2x2"),
        ({"size": (9998, 9998)}, "a size of 9998x9998 pixels; expected at most 67,108,864 pixels in all"),
        ({"size": (8, 7)}, "a size of 8x7 pixels"),
        ({"size": (0, 8)}, "a size of 0x8 pixels"),
        ({"size": (8, -2)}, "a size of 8x-2 pixels"),
        ({"sampler": "eulr"}, r"'eulr'; did you mean 'euler'\? Or one of ddim, ddpm"),
        ({"batch": 0}, "a batch of 0 images; expected at least 1"),
    ],
)
def test_values_the_model_cannot_work_with_are_errors(model, options, message):
    with pytest.raises(LdmError, match=message):
        model.generate("red dog", seed=1, **options)


# --- parts with dtypes of their own -------------------------------------------------------------------------

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
QUICK = {(9, torch.bfloat16), (4, torch.float16)}


@pytest.mark.parametrize(
    ("in_channels", "others"),
    [
        pytest.param(
            channels,
            dtype,
            marks=() if (channels, dtype) in QUICK else pytest.mark.long,
        )
        for channels in (4, 9)
        for dtype in DTYPES
    ],
)
@pytest.mark.parametrize("part", ["text", "unet", "vae"])
def test_each_part_may_have_a_dtype_of_its_own(randomise, part, others, in_channels):
    model, options = (
        small_model(randomise, in_channels=in_channels),
        {"seed": 7, "steps": 2, "size": (160, 8)},
    )
    pictures = {"init": Image.new("RGB", (160, 8), "red"), "mask": left_half((160, 8))}
    for dtype in DTYPES:
        model.to(others)
        getattr(model, part).to(dtype)
        for tile in (False, True):
            [image] = model.generate("(red:1.3) dog", "dog", tile=tile, **pictures, **options)
            assert image.size == (160, 8)
        assert model.encode_image(to_pixels([pictures["init"]])).isfinite().all()


def test_a_vae_in_full_precision_decodes_what_a_unet_in_half_precision_made_at_full_precision(randomise):
    model, latents = small_model(randomise).bfloat16(), []
    model.vae.float()
    model.vae.decoder.register_forward_pre_hook(lambda _, args: latents.append(args[0]))
    images = model.generate("red dog", seed=7)
    [latent] = latents
    assert latent.dtype == torch.float32 and not torch.equal(latent, latent.bfloat16().float())
    with torch.no_grad():
        assert same(images, to_images(model.vae.decoder(latent)))
