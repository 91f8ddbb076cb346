r"""Accelerating a network changes classes, and nothing that anybody can see from outside."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ldm.backend import accelerate as module
from ldm.backend import fused_upsample, winograd
from ldm.backend.accelerate import FASTER, accelerate
from ldm.nn.attention import Attention
from ldm.nn.resnet import Upsample
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.backend.slower import plain
from tests.small import CONFIG


def kinds(network: torch.nn.Module) -> list[type]:
    return [type(part) for part in network.modules()]


@pytest.mark.parametrize("build", [lambda: UNet(CONFIG.unet), lambda: VAE(CONFIG.vae)], ids=["unet", "vae"])
def test_it_keeps_the_parameters_and_can_be_undone(build):
    network = build()
    before, names = kinds(network), list(network.state_dict())
    assert set(before) & set(FASTER)
    assert accelerate(network) is network
    assert not set(kinds(network)) & set(FASTER) and list(network.state_dict()) == names
    assert kinds(accelerate(network)) == kinds(network)  # once is enough
    assert kinds(plain(network)) == before


def test_single_classes_can_be_made_plain():
    vae = accelerate(VAE(CONFIG.vae))
    plain(vae, Upsample)
    found = kinds(vae)
    assert Upsample in found and FASTER[Attention] in found and Attention not in found


def use_winograd_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    use = replace(winograd.USES[torch.float32][0], channels=1, pixels=1)
    monkeypatch.setattr(winograd, "USES", {torch.float32: (use,)})
    monkeypatch.setattr(winograd, "wins", lambda trial: True)


@pytest.mark.parametrize("winograd_wins", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (5, 7)])
def test_an_accelerated_network_computes_the_same(monkeypatch, randomise, draw, size, winograd_wins):
    if winograd_wins:
        use_winograd_everywhere(monkeypatch)
    unet, vae = randomise(UNet(CONFIG.unet)).float(), randomise(VAE(CONFIG.vae)).float()
    x, context, t = draw(2, 4, *size).float(), draw(2, 3, 16).float(), torch.tensor([7, 700])
    pixels = draw(1, 3, 2 * size[0], 2 * size[1]).float()
    with torch.no_grad():
        before = unet(x, t, context), vae.decode(x), vae.encode(pixels)[0]
        accelerate(unet), accelerate(vae)
        after = unet(x, t, context), vae.decode(x), vae.encode(pixels)[0]
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_frozen_network_computes_the_same_with_gradients_enabled(monkeypatch, randomise, draw):
    monkeypatch.setattr(fused_upsample, "THRESHOLD", 1)
    use_winograd_everywhere(monkeypatch)
    vae, x = accelerate(randomise(VAE(CONFIG.vae)).float().requires_grad_(False)), draw(1, 4, 8, 12).float()
    with torch.no_grad():
        expected = vae.decode(x)
    assert torch.equal(vae.decode(x), expected)


def test_the_decoder_keeps_large_maps_out_of_the_heap_except_in_training(monkeypatch, randomise, draw):
    seen = []

    @contextmanager
    def apart():
        seen.append("apart")
        yield
        seen.append("back")

    monkeypatch.setattr(module, "mmap_large_blocks", apart)
    vae = accelerate(randomise(VAE(CONFIG.vae)))
    vae.decoder.up[0].register_forward_hook(lambda *_: seen.append("up"))
    vae.decode(draw(1, 4, 2, 2))
    assert seen == ["up"]
    with torch.no_grad():
        vae.decode(draw(1, 4, 2, 2))
    assert seen == ["up", "apart", "up", "back"]
