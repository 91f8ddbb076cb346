r"""The memory format changes the order in which numbers are stored, and no number."""

import pytest
import torch
from torch import nn

from ldm.backend.accelerate import accelerate
from ldm.backend.memory_format import HALF_PRECISION, channels_last_input, converted, rearrange_kernels
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.small import CONFIG


def is_channels_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.parametrize("size", [(8, 12), (5, 7)])
def test_unet_and_vae_say_the_same_in_either_layout(randomise, draw, size):
    unet, vae = randomise(UNet(CONFIG.unet)), randomise(VAE(CONFIG.vae))
    x, context, t = draw(2, 4, *size), draw(2, 3, 16), torch.tensor([7, 700])
    pixels = draw(1, 3, 2 * size[0], 2 * size[1])
    before = unet(x, t, context), vae.decode(x), vae.encode(pixels)[0]
    unet.to(memory_format=torch.channels_last)
    vae.to(memory_format=torch.channels_last)
    after = unet(x, t, context), vae.decode(x), vae.encode(pixels)[0]
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("lead", ["weights", "input"])
def test_every_feature_map_follows(randomise, draw, lead):
    # One layer that gave the usual order would have the next one put everything back again, unseen but slow.
    unet, vae = randomise(UNet(CONFIG.unet)), randomise(VAE(CONFIG.vae))
    seen = []
    for network in (unet, vae):
        if lead == "weights":
            network.to(memory_format=torch.channels_last)
        else:
            accelerate(network.float().eval())
        for name, part in network.named_modules():
            if isinstance(part, nn.Conv2d) and part.in_channels > 4:  # the latent itself comes as it comes
                part.register_forward_pre_hook(
                    lambda _, x, name=name: seen.append((name, is_channels_last(x[0])))
                )
    dtype = next(unet.parameters()).dtype
    unet(draw(2, 4, 8, 8).to(dtype), torch.tensor(7), draw(2, 3, 16).to(dtype))
    vae.decode(draw(2, 4, 8, 8).to(dtype))
    vae.encode(draw(2, 3, 16, 16).to(dtype))
    assert len(seen) > 30 and [name for name, follows in seen if not follows] == []


def test_in_training_the_unets_maps_stay_as_they_come(randomise, draw):
    unet, seen = accelerate(randomise(UNet(CONFIG.unet)).float()), []
    unet.conv_in.register_forward_pre_hook(lambda _, x: seen.append(is_channels_last(x[0])))
    for training in (True, False):
        unet.train(training)(draw(2, 4, 8, 8).float(), torch.tensor(7), draw(2, 3, 16).float())
    assert seen == [False, True]


def test_only_float32_inputs_on_a_cpu_are_rearranged(draw):
    x = draw(2, 3, 4, 5)
    assert channels_last_input(x) is x and channels_last_input(x.bfloat16()).is_contiguous()
    assert channels_last_input(x.float().to("meta")).is_contiguous()
    laid = channels_last_input(x.float())
    assert is_channels_last(laid) and torch.equal(laid, x.float())


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.bfloat16, True), (torch.float32, False), (torch.float16, False)]
)
def test_only_bfloat16_on_a_cpu_is_laid_out_anew(dtype, expected):
    network = nn.Sequential(nn.Linear(2, 3), nn.Conv2d(2, 3, 3)).to(dtype)
    cpu = torch.device("cpu")
    single = converted(network[1].weight, cpu, dtype)
    assert converted(network[0].weight, cpu, dtype) is network[0].weight
    assert (single is network[1].weight) is not expected and torch.equal(single, network[1].weight)
    wide = network[1].weight.double()
    assert torch.equal(converted(wide, cpu, dtype), single)
    assert converted(wide, cpu, dtype).stride() == single.stride()
    assert is_channels_last(single) is expected


def test_half_precision_on_a_card_is_laid_out_anew():
    assert {kind for kind in HALF_PRECISION if kind[0] != "cpu"} == {
        ("cuda", torch.float16),
        ("cuda", torch.bfloat16),
    }


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, True), (torch.float64, False)])
def test_a_small_networks_kernels_are_laid_out_once_and_say_the_same(randomise, draw, dtype, expected):
    unet = accelerate(randomise(UNet(CONFIG.unet)).to(dtype))
    inputs = draw(2, 4, 8, 8).to(dtype), torch.tensor(7), draw(2, 3, 16).to(dtype)
    before, state = unet(*inputs), {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    rearrange_kernels(unet)
    assert is_channels_last(unet.mid.res_1.conv_1.weight) is expected
    assert all(torch.equal(tensor, state[name]) for name, tensor in unet.state_dict().items())
    torch.testing.assert_close(unet(*inputs), before)
