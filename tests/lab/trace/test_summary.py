r"""The summary has the modules' real shapes and all of their parameters."""

import torch

from ldm.config import SD1
from ldm.lab.trace.summary import meta_inputs, networks, summarize, table_modules
from ldm.pipeline import LatentDiffusion
from tests.small import TOKENIZER


def test_every_parameter_is_in_exactly_one_line(model):
    for name, network in networks(model).items():
        seen = summarize(network, dict(table_modules(network)), *meta_inputs(model.config)[name])
        assert len(seen) == len({p.module for p in seen}) > 5
        assert sum(p.parameters for p in seen) == sum(p.numel() for p in network.parameters())


def test_the_shapes_are_those_of_a_pass_with_real_numbers(model):
    r"""Default size 16, so a latent of 8 x 8; the second level has 4 x 4."""
    by_name = {
        p.module: p
        for p in summarize(model.unet, dict(table_modules(model.unet)), *meta_inputs(model.config)["unet"])
    }
    assert by_name["conv_in"].inputs == ((4, 8, 8),) and by_name["conv_in"].outputs == ((8, 8, 8),)
    assert by_name["down.1.res.0"].inputs == ((8, 4, 4), (32,)) and by_name["time_embedding"].outputs == (
        (32,),
    )
    assert by_name["mid.attn"].inputs == ((16, 4, 4), (32, 16))
    assert by_name["up.0.res.1"].inputs[0] == (16 + 8, 4, 4)  # with the skip of down.0's downsample
    out = model.unet(torch.zeros(1, 4, 8, 8), torch.tensor([1]), torch.zeros(1, 32, 16))
    assert by_name["conv_out"].outputs == (tuple(out.shape[1:]),)


def test_the_order_is_that_of_execution(model):
    decoder, given = model.vae.decoder, meta_inputs(model.config)["decoder"]
    names = [p.module for p in summarize(decoder, dict(table_modules(decoder)), *given)]
    assert names[0] == "post_quant_conv" and names[-1] == "conv_out"
    assert (
        names.index("mid.res_1")
        < names.index("mid.attn")
        < names.index("up.0.res.0")
        < names.index("up.1.res.0")
    )


def test_the_model_is_left_as_it_was(model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    summarize(model.unet, dict(table_modules(model.unet)), *meta_inputs(model.config)["unet"])
    for name, p in model.named_parameters():
        assert p.device.type == "cpu" and torch.equal(p, before[name])
    assert not any(m._forward_hooks for m in model.modules())


def test_stable_diffusion_has_the_known_number_of_parameters():
    r"""859,520,964 and 83,653,863: diffusers' `num_parameters()` of the released U-Net and VAE."""
    with torch.device("meta"):
        model = LatentDiffusion(SD1, TOKENIZER)
    given = meta_inputs(SD1)
    sizes = {
        name: sum(p.parameters for p in summarize(network, dict(table_modules(network)), *given[name]))
        for name, network in networks(model).items()
    }
    assert sizes["unet"] == 859_520_964 and sizes["encoder"] + sizes["decoder"] == 83_653_863
