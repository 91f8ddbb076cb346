r"""Reused deep features: which evaluations are whole, and what a shallow one computes."""

import pytest
import torch
import torch.nn.functional as F

from ldm.errors import LdmError
from ldm.unet.deep_cache import DeepCache
from ldm.unet.unet import UNet
from tests.small import CONFIG


@pytest.fixture
def unet(randomise):
    return randomise(UNet(CONFIG.unet)).double()


def inputs(draw, batch=2, times=6):
    r"""Latents of successive steps, nearer and nearer to one another, with their timesteps; and a context."""
    x, context = draw(batch, 4, 8, 8), draw(batch, 3, 16)
    return [(x + draw(batch, 4, 8, 8) / (10 + i), torch.tensor(900 - i)) for i in range(times)], context


@pytest.mark.parametrize(("every", "whole"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (4, [0, 4])])
def test_every_nth_evaluation_is_whole_and_the_others_are_not(unet, draw, every, whole):
    (steps, context), cache = inputs(draw), DeepCache(unet, every)
    for i, (x, t) in enumerate(steps):
        found, expected = cache(x, t, context), unet(x, t, context)
        assert torch.equal(found, expected) is (i in whole)
        assert F.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.5


def test_a_shallow_evaluation_written_out(unet, draw):
    (steps, context), cache = inputs(draw), DeepCache(unet, 2)
    (x, t), (x_2, t_2) = steps[:2]
    seen = []
    unet.up[-1].res[-1].register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    cache(x, t, context)
    width = unet.conv_in.out_channels
    deep, last, time_emb = seen[0][:, :-width], unet.up[-1], unet.time_embedding(t_2.expand(2))
    h = last.res[-1](torch.cat([deep, unet.conv_in(x_2)], dim=1), time_emb)
    h = last.attn[-1](h, context) if last.attn else h
    expected = unet.conv_out(F.silu(unet.norm_out(h)))
    torch.testing.assert_close(cache(x_2, t_2, context), expected, rtol=0, atol=0)


@pytest.mark.parametrize("steered", [False, True])
def test_with_the_same_latent_and_time_nothing_is_lost(unet, draw, steered):
    steps, context = inputs(draw)
    (x, t), cache = steps[0], DeepCache(unet, 3)
    residuals = [draw(*skip.shape) for skip in skips_and_middle(unet, x, t, context)] if steered else []
    whole = unet(x, t, context, residuals=residuals)
    assert torch.equal(whole, unet(x, t, context)) is not steered
    cache(x, t, context, residuals)
    torch.testing.assert_close(cache(x, t, context, residuals), whole, rtol=0, atol=1e-12)


def skips_and_middle(unet, *given):
    r"""What a ControlNet adds to: the skips, the finest first, and the mid level's output."""
    kept = []
    parts = [unet.conv_in, *unet.down, unet.mid]
    handles = [part.register_forward_hook(lambda part, inputs, out: kept.append(out)) for part in parts]
    unet(*given)
    for handle in handles:
        handle.remove()
    first, *levels, middle = kept
    return [first, *(skip for _, skips in levels for skip in skips), middle]


def test_most_layers_rest(unet, draw):
    (steps, context), cache, ran = inputs(draw), DeepCache(unet, 2), []
    for name, part in unet.named_modules():
        part.register_forward_hook(lambda part, given, out, name=name: ran.append(name))
    cache(*steps[0], context)
    whole, ran[:] = set(ran), []
    cache(*steps[1], context)
    last = f"up.{len(unet.up) - 1}"
    kept = f"{last}.res.{len(unet.up[-1].res) - 1}", f"{last}.attn.{len(unet.up[-1].attn) - 1}"
    ends = ("conv_in", "time_embedding", "norm_out", "conv_out", *kept)
    assert set(ran) == {name for name in whole if name.startswith(ends)} < whole


def test_a_batch_of_another_size_has_nothing_to_reuse(unet, draw):
    (steps, context), cache = inputs(draw), DeepCache(unet, 2)
    x, t = steps[0]
    cache(x, t, context)
    torch.testing.assert_close(cache(x[:1], t, context[:1]), unet(x[:1], t, context[:1]), rtol=0, atol=0)
    assert not torch.equal(cache(steps[1][0][:1], t, context[:1]), unet(steps[1][0][:1], t, context[:1]))


def test_no_hook_is_left_behind(unet, draw):
    steps, context = inputs(draw)
    cache = DeepCache(unet, 2)
    for x, t in steps:
        cache(x, t, context)
    with pytest.raises(LdmError):
        cache(steps[0][0][:, :2], steps[0][1], context)
    assert not any(part._forward_pre_hooks for part in unet.modules())


@pytest.mark.parametrize("every", [0, -1])
def test_less_than_one_is_an_error(unet, every):
    with pytest.raises(LdmError, match=f"a whole evaluation every {every} steps; expected 1"):
        DeepCache(unet, every)
