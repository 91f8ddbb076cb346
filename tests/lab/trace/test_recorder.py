r"""The recorder: it sees what happens, and changes nothing."""

import math

import numpy as np
import pytest
import torch

from ldm.diffusion.level import Level
from ldm.diffusion.sample import Step
from ldm.errors import LdmError
from ldm.images.pixels import to_images
from ldm.lab.trace.recorder import guidance_size_and_angle, record
from ldm.nn.attention import Attention, attention_weights
from ldm.text.positions import Word, prompt_words
from ldm.text.tokenizer import Tokenizer


def generate(model, prompt="red dog", progress=None, **options):
    r"""A recording, and its images."""
    with record(model, prompt) as recording:
        images = model.generate(
            prompt, progress=recording.watch(progress), **{"seed": 7, "steps": 3, "size": (24, 16)} | options
        )
    return recording, images


def switches(model):
    return [m.by_hand for m in model.modules() if isinstance(m, Attention)]


def cross_attention(model):
    return [m for name, m in model.unet.named_modules() if name.endswith("cross_attn")]


def hooks(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_the_images_are_the_same_with_and_without_a_recorder(model):
    _, watched = generate(model, batch=2)
    plain = model.generate("red dog", seed=7, steps=3, size=(24, 16), batch=2)
    for a, b in zip(watched, plain, strict=True):
        assert np.abs(np.asarray(a).astype(int) - np.asarray(b)).max() <= 1


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back_whether_the_block_ends_well_or_not(model, fails):
    cross_attention(model)[0].by_hand = True  # somebody else's switch: it has to stay on
    before = switches(model), hooks(model)
    try:
        with record(model, "red dog") as recording:
            assert switches(model) == before[0] and hooks(model) != before[1]
            for _ in recording.watch()(iter(()), 0):
                pass
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert (switches(model), hooks(model)) == before


def test_only_cross_attention_is_computed_by_hand(model):
    with record(model, "red dog"):
        hooked = [name for name, m in model.named_modules() if isinstance(m, Attention) and m._forward_hooks]
    assert hooked and all(name.startswith("unet.") and name.endswith("cross_attn") for name in hooked)


def test_the_recorded_run_is_the_one_with_by_hand_cross_attention_bit_for_bit(model):
    recording, _ = generate(model)
    for layer in cross_attention(model):
        layer.by_hand = True
    steps = []
    model.generate(
        "red dog",
        seed=7,
        steps=3,
        size=(24, 16),
        progress=lambda path, _: (steps.append(s) or s for s in path),
    )
    assert all(torch.equal(m.x_prev, step.x_prev) for m, step in zip(recording.steps, steps, strict=True))


def test_a_recorded_step_is_one_of_the_loop_with_its_noise_level(model):
    seen = []

    def bar(path, steps):
        for step in path:
            seen.append((step, steps))
            yield step

    recording, _ = generate(model, progress=bar, batch=2)
    assert [m.t for m in recording.steps] == [667, 334, 1] and [steps for _, steps in seen] == [3] * 3
    for kept, (step, _) in zip(recording.steps, seen, strict=True):
        assert torch.equal(kept.x_t, step.x_t) and torch.equal(kept.x0, step.x0)
        assert torch.equal(kept.x_prev, step.x_prev) and kept.t == step.level.t
        assert kept.alpha_bar == pytest.approx(model.alpha_bar()[kept.t].item(), rel=2e-7)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)[334]
    assert recording.steps[1].snr == pytest.approx(alpha_bar / (1 - alpha_bar), rel=1e-4)


def test_the_guidance_vector_worked_by_hand():
    # Image 0: from (3, 4) to (4, 3), a difference of sqrt(2) against 5, and a cosine of 24/25. Image 1: a
    # right angle from (0, 2) to (4, 0), a difference of sqrt(20) against 2.
    uncond = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    cond = torch.tensor([[4.0, 3.0], [4.0, 0.0]])
    size, angle = guidance_size_and_angle(uncond, cond)
    assert size == pytest.approx((math.sqrt(2) / 5, math.sqrt(5)), rel=1e-12)
    assert angle == pytest.approx((math.degrees(math.acos(0.96)), 90.0), rel=1e-12)


def test_the_recorded_guidance_is_that_of_two_evaluations_of_the_unet(model):
    recording, _ = generate(model, negative="dog", guidance=3.0, batch=2)
    step = recording.steps[1]
    prompt, negative = model.encode_text(["red dog", "dog"]).context.detach()
    cond, uncond = (
        model.unet(step.x_t[1:], torch.tensor(step.t), context[None]).detach()[0].double()
        for context in (prompt, negative)
    )
    cosine = (cond * uncond).sum() / cond.norm() / uncond.norm()
    assert step.guidance_size[1] == pytest.approx(float((cond - uncond).norm() / uncond.norm()), rel=1e-4)
    assert step.guidance_angle[1] == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-4)
    assert step.guidance_size[0] != step.guidance_size[1]


def test_without_guidance_there_is_no_guidance_vector_but_there_are_maps(model):
    recording, _ = generate(model, guidance=1.0, batch=2)
    assert all(m.guidance_size is None and m.guidance_angle is None for m in recording.steps)
    guided, _ = generate(model, guidance=1 + 1e-6, batch=2)
    for a, b in zip(recording.steps, guided.steps, strict=True):
        torch.testing.assert_close(a.attention, b.attention, rtol=0, atol=1e-5)


def test_the_map_is_the_mean_over_all_heads_of_the_conditional_half(model):
    r"""Latent 8 x 12: one level of 4 x 6 with attention, and the middle, also 4 x 6."""
    recording, _ = generate(model, negative="dog", batch=2, steps=1)
    step = recording.steps[0]
    context = model.encode_text(["red dog"] * 2).context
    inputs = {}
    for m in cross_attention(model):
        m.register_forward_hook(lambda m, args, _: inputs.__setitem__(m, args))
    model.unet(step.x_t, torch.tensor(step.t), context)
    assert len(inputs) == 4
    total = 0
    for m, (x, text) in inputs.items():
        q, k = (y.unflatten(-1, (m.heads, -1)).transpose(1, 2) for y in (m.q(x), m.k(text)))
        maps = attention_weights(q, k).mean(1)[..., :4].transpose(1, 2).unflatten(-1, (4, 6))
        total = total + torch.nn.functional.interpolate(maps, (8, 12), mode="bilinear")
    torch.testing.assert_close(step.attention, (total / 4).detach(), rtol=1e-4, atol=1e-6)


def test_a_pixels_weights_on_all_tokens_sum_to_one(model):
    # 30 words of one piece and the two marks fill the context: nothing is left to the padding.
    recording, _ = generate(model, " ".join(["red"] * 30), steps=1)
    attention = recording.steps[0].attention
    assert attention.shape == (1, 32, 8, 12) and attention.min() >= 0
    torch.testing.assert_close(attention.sum(1), torch.ones(1, 8, 12))
    short, _ = generate(model, "red dog", steps=1)
    assert short.steps[0].attention.shape == (1, 4, 8, 12) and short.steps[0].attention.sum(1).max() < 1


def test_maps_stay_small_for_large_images(model):
    recording, _ = generate(model, size=(264, 4), steps=1)  # latent 2 x 132
    assert recording.steps[0].attention.shape[-2:] == (1, 64)
    assert recording.steps[0].x_t.shape[-2:] == (2, 132)


def test_words_find_their_tokens():
    tokenizer = Tokenizer([("r", "e"), ("re", "d</w>")], context_length=9)
    assert prompt_words(tokenizer, "Red dog, red") == [
        Word("red", (1,)), Word("dog", (2, 3, 4)), Word(",", (5,)), Word("red", (6,)),
    ]  # fmt: skip
    assert prompt_words(tokenizer, "red doggy dog") == [Word("red", (1,)), Word("doggy", (2, 3, 4, 5, 6)),
                                                        Word("dog", (7,))]  # fmt: skip
    assert prompt_words(tokenizer, "") == []
    special = prompt_words(tokenizer, "red<|endoftext|>red")
    assert [word.positions for word in special] == [(1,), (2,), (3,)]


def test_brackets_are_no_words_unless_they_are_taken_as_text(model):
    tokenizer = Tokenizer([("r", "e"), ("re", "d</w>")], context_length=9)
    assert prompt_words(tokenizer, "(red:1.3) [ox]") == [Word("red", (1,)), Word("ox", (2, 3))]
    assert [word.text for word in prompt_words(tokenizer, "(red)", weighting=False)] == ["(", "red", ")"]

    recording, _ = generate(model, "a (red:1.3) dog", steps=1)
    assert recording.tokens == ["a</w>", "red</w>", "dog</w>"] and recording.words[1] == Word("red", (2,))
    assert recording.steps[0].attention.shape[1] == 5  # and the two marks
    with record(model, "(red)", weighting=False) as plain:
        assert plain.tokens == ["(</w>", "red</w>", ")</w>"]


def test_a_words_heat_is_the_sum_over_its_tokens_and_the_mean_over_steps(model):
    recording, _ = generate(model, "red ox", steps=2)
    ox = recording.words[1]
    assert ox == Word("ox", (2, 3)) and recording.tokens == ["red</w>", "o", "x</w>"]
    by_step = [m.attention[0, 2] + m.attention[0, 3] for m in recording.steps]
    torch.testing.assert_close(recording.heat_map(ox, step=1), by_step[1])
    torch.testing.assert_close(recording.heat_map(ox), (by_step[0] + by_step[1]) / 2)


def test_predictions_are_decoded_on_demand_and_the_last_latent_is_the_image(model):
    recording, images = generate(model, batch=2)
    guesses = recording.decode("x0", index=1, batch=2)
    assert len(guesses) == 3
    for guess, step in zip(guesses, recording.steps, strict=True):
        [expected] = to_images(model.vae.decode(step.x0[1:]))
        assert np.abs(np.asarray(guess).astype(int) - np.asarray(expected)).max() <= 1
    [begin] = recording.decode("x_t", index=1, steps=[0])
    [noise] = to_images(model.vae.decode(recording.steps[0].x_t[1:]))
    assert np.abs(np.asarray(begin).astype(int) - np.asarray(noise)).max() <= 1
    [last] = to_images(model.vae.decode(recording.steps[-1].x_prev[1:]))
    assert np.abs(np.asarray(last).astype(int) - np.asarray(images[1])).max() <= 1


def test_when_a_step_takes_two_evaluations_the_first_one_counts(model, draw):
    x, elsewhere = draw(1, 4, 8, 12).float(), draw(1, 4, 8, 12).float()

    @torch.no_grad()
    def steps(evaluations):
        for place, t in evaluations:
            model.unet(place, torch.tensor(t), model.encode_text(["red dog"]).context)
        yield Step(Level(500, 0.6, 0.8), x, x, x)

    def attention(*evaluations):
        with record(model, "red dog") as recording:
            list(recording.watch()(steps(evaluations), 1))
        return recording.steps[0].attention

    once = attention((x, 500))
    assert torch.equal(attention((x, 500), (elsewhere, 400)), once)
    assert not torch.equal(attention((elsewhere, 400), (x, 500)), once)


def test_a_second_call_in_one_recording_is_refused(model):
    with record(model, "red dog") as recording:
        model.generate("red dog", steps=1, seed=1, progress=recording.watch())
        with pytest.raises(LdmError, match="open a new one"):
            model.generate("red dog", steps=1, seed=1, progress=recording.watch())


def test_images_of_contexts_of_two_lengths_are_refused(model):
    with record(model, "red") as recording, pytest.raises(LdmError, match="record one prompt at a time"):
        model.generate(["red", "red " * 40], seed=1, long_prompt="chunk", progress=recording.watch())


def test_watching_outside_the_block_is_refused(model):
    with record(model, "red dog") as recording:
        pass
    with pytest.raises(LdmError, match="inside the block"):
        model.generate("red dog", steps=1, seed=1, progress=recording.watch())
