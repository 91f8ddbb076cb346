r"""ControlNets against diffusers' in float64: alone, and in whole runs; and what they do to a model."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.adapters.control import Control, residual_scales
from ldm.adapters.controlnet import ControlNet, skip_widths
from ldm.checkpoints.control_file import control_rows
from ldm.unet import added, embedding
from ldm.unet.unet import UNet
from tests.equations.numbers import normal
from tests.golden.compare import assert_same, filled, golden
from tests.golden.sdxl import UNET, recorded_sinusoids, small_sdxl
from tests.golden.weights import draw
from tests.unet.test_golden import SIZES

HINT = (4, 6, 8, 12)


def small(kind: str) -> ControlNet:
    rows = control_rows(SIZES[kind], len(HINT), linear_projection=kind == "sd2")
    return filled(ControlNet(SIZES[kind], HINT), rows)


@pytest.mark.parametrize("case", ["plain", "half", "guess"])
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_residuals_equal_the_reference(kind, case, monkeypatch):
    expected = golden("control")
    monkeypatch.setattr(embedding, "timestep_embedding", lambda t, width: expected[f"{kind}/sinusoids"])
    network = small(kind)
    hint = network.hint(torch.from_numpy(abs(normal(2, 3, 64, 96, seed=31))))
    out = network(expected[f"{kind}/x_t"], expected["t"], expected[f"{kind}/context"], hint)
    scales = residual_scales(len(out), 0.5 if case == "half" else 1.0, case == "guess")
    for i, (residual, scale) in enumerate(zip(out, scales, strict=True)):
        weights = torch.from_numpy(normal(*residual.shape[2:], seed=40 + i))
        assert_same((scale * residual * weights).mean((2, 3)), expected[f"{kind}/{case}/{i}"])


def picture(seed: int) -> Image.Image:
    bits = np.random.RandomState(seed).randint(0, 2, (32, 24, 3))
    return Image.fromarray((255 * bits).astype(np.uint8))


def named(name: str) -> ControlNet:
    r"""The small ControlNet of Stable Diffusion XL; other names, other weights."""
    network = ControlNet(UNET, HINT[:2], pool=name == "pool").double()
    prefix = "" if name == "a" else f"{name}."
    for row in control_rows(UNET, 2, linear_projection=True):
        parameter = network.get_parameter(row.ours)
        parameter.data = torch.from_numpy(draw(prefix + row.diffusers, parameter.shape))
    return network.eval().requires_grad_(False)


RUNS = {
    "one": [("a", {"strength": 0.7})],
    "window": [("a", {"start": 0.3, "end": 0.7})],
    "guess": [("a", {"guess": True})],
    "pool": [("pool", {})],
    "two": [("a", {"strength": 0.7, "end": 0.7}), ("b", {"strength": 1.3, "start": 0.3})],
}


@pytest.fixture(scope="module")
def model():
    return small_sdxl()


@pytest.mark.parametrize("run", RUNS)
def test_a_whole_run_equals_the_reference(model, run, monkeypatch):
    expected = golden("control")
    for module in (added, embedding):
        monkeypatch.setattr(module, "timestep_embedding", recorded_sinusoids(expected))
    controls = [Control(named(name), picture(i), **options) for i, (name, options) in enumerate(RUNS[run])]
    x = model.generate(
        "red dog", "dog", latents=expected["run/noise"], output="latent",
        control=controls if len(controls) > 1 else controls[0],
    )  # fmt: skip
    assert_same(x, expected[f"run/{run}/latents"], 1e-8)


def test_a_new_controlnet_changes_nothing_but_learns_at_once(draw):
    config = SIZES["tiny"]
    network, unet = ControlNet(config, HINT[:2]).double(), UNet(config).double()
    x, context = draw(1, 4, 8, 8), draw(1, 5, 24)
    out = network(x, torch.tensor(7), context, network.hint(draw(1, 3, 16, 16)))
    assert all(not residual.any() for residual in out) and len(out) == len(skip_widths(config)) + 1
    target = unet(x, torch.tensor(7), context) + 1
    ((unet(x, torch.tensor(7), context, out) - target) ** 2).mean().backward()
    assert all(conv.weight.grad.any() for conv in (*network.zero, network.zero_mid))


def test_outside_its_steps_the_network_is_not_evaluated(model, monkeypatch):
    control = Control(named("a"), picture(0), end=0.4)
    seen = []
    control.network.register_forward_hook(lambda *_: seen.append(1))
    model.generate("dog", size=(24, 32), seed=1, steps=3, control=control, output="latent")
    assert seen == [1]
