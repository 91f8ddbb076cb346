r"""The networks called one at a time: what is cast, what is added inside the U-Net, what guidance needs."""

import pytest
import torch

from ldm.diffusion.conditioning import Conditioning
from ldm.errors import LdmError
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER

SKIPS, MIDDLE = ((8, 8, 8), (8, 8, 8), (8, 4, 4), (16, 4, 4)), (16, 4, 4)


@pytest.fixture
def model(randomise):
    return randomise(LatentDiffusion(CONFIG, TOKENIZER)).requires_grad_(False).double()


def test_residuals_are_added_to_the_skips_and_the_middle(model, draw):
    x, context = draw(2, 4, 8, 8), model.encode_text(["red dog"]).context
    [level, *_] = model.levels("ddim", 2)
    given = [draw(1, *shape) for shape in (*SKIPS, MIDDLE)]
    plain = model.predict(x, level, Conditioning(context))
    seen = model.predict(x, level, Conditioning(context, residuals=lambda *inputs: given))
    expected = model.unet(x, torch.tensor(level.t), context.expand(2, -1, -1), given)
    assert torch.equal(seen, expected) and not torch.allclose(seen, plain)
    zeros = [torch.zeros_like(r) for r in given]
    assert torch.equal(model.predict(x, level, Conditioning(context, residuals=lambda *inputs: zeros)), plain)
    # In the middle: the same as a hook that adds it to what the mid level returns.
    hook = model.unet.mid.register_forward_hook(lambda _, args, out: out + given[-1])
    expected = model.predict(x, level, Conditioning(context))
    hook.remove()
    middle = [*zeros[:-1], given[-1]]
    seen = model.predict(x, level, Conditioning(context, residuals=lambda *inputs: middle))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-14)
    # On a skip: the same as a hook that adds it to what the up path reads of it, behind the other half of the channels.
    first = [given[0], *zeros[1:]]
    hook = (
        model.unet.up[-1]
        .res[-1]
        .register_forward_pre_hook(
            lambda _, args: (torch.cat([args[0][:, :-8], args[0][:, -8:] + given[0]], dim=1), *args[1:])
        )
    )
    expected = model.predict(x, level, Conditioning(context))
    hook.remove()
    seen = model.predict(x, level, Conditioning(context, residuals=lambda *inputs: first))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-14)
    with pytest.raises(LdmError, match="3 residuals; expected one for each of the 4 skips"):
        model.predict(x, level, Conditioning(context, residuals=lambda *inputs: [*zeros[:2], zeros[-1]]))


def test_guidance_needs_a_negative_and_1_needs_none(model):
    cond, uncond = (model.encode_text([text]) for text in ("red dog", "dog"))
    x, level = model.noise_source([1], (16, 16))(), model.levels("ddim", 2)[0]
    plain = model.denoiser(cond)(x, level)
    torch.testing.assert_close(plain, model.denoiser(cond, uncond, 1.0)(x, level), rtol=0, atol=0)
    with pytest.raises(LdmError, match="a guidance of 3.0 without `uncond`"):
        model.denoiser(cond, guidance=3.0)
    rescaled, guided = (model.denoiser(cond, uncond, 3.0, phi)(x, level)[1] for phi in (1.0, None))
    torch.testing.assert_close(rescaled.std(), plain[1].std())
    assert not torch.allclose(rescaled, guided)


def test_outside_an_interval_there_is_no_guidance_and_one_evaluation(model):
    cond, uncond = (model.encode_text([text]) for text in ("red dog", "dog"))
    x, levels = model.noise_source([1], (16, 16))(), model.levels("ddim", 5)
    batches = []
    model.unet.register_forward_pre_hook(lambda unet, given: batches.append(len(given[0])))
    interval = (levels[3].ve_sigma, levels[1].ve_sigma)  # of the steps from level 1 and from level 2
    for i, level in enumerate(levels[:-1]):
        found = model.denoiser(cond, uncond, 3.0, interval=interval)(x, level)
        expected = model.denoiser(cond, uncond, 3.0 if i in (1, 2) else 1.0)(x, level)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert batches[::2] == [1, 2, 2, 1, 1]


def test_gradients_flow_through_an_evaluation_and_the_decoder(model, draw):
    x = draw(1, 4, 8, 8).requires_grad_()
    cond, uncond = model.encode_text(["red dog"]), model.encode_text(["dog"])
    cond = Conditioning(cond.context.requires_grad_())
    x0, _ = model.denoiser(cond, uncond, guidance=3.0)(x, model.levels("ddim", 2)[0])
    model.decode_pixels(x0).square().sum().backward()
    assert x.grad.abs().sum() > 0 and cond.context.grad.abs().sum() > 0
