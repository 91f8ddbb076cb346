r"""ControlNets against diffusers' in float64: alone, and in whole runs; and what they do to a model."""

import math

import pytest
import torch
from PIL import Image

from ldm.adapters.control import Control, is_active, residual_scales
from ldm.adapters.controlnet import ControlNet, skip_widths
from ldm.checkpoints.control_file import control_rows
from ldm.diffusion.level import CLEAN, Level
from ldm.errors import LdmError
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


def test_the_weights_of_guess_mode_rise_from_a_tenth_and_are_near_the_original_codes():
    scales = residual_scales(13, 2.0, guess=True)
    assert scales[0] == pytest.approx(0.2) and scales[-1] == 2.0
    assert all(abs(2 * 0.825 ** (12 - i) / scale - 1) < 0.006 for i, scale in enumerate(scales))
    assert residual_scales(3, 0.5) == [0.5] * 3


def test_a_controlnet_acts_in_the_steps_that_lie_whole_between_start_and_end():
    levels = [Level(t, 0.6, 0.8) for t in (900, 600, 300, 100)] + [CLEAN]
    active = [is_active(level, levels, 0.25, 0.75) for level in levels[:-1]]
    assert active == [False, True, True, False]
    assert is_active(Level(450, 0.6, 0.8), levels, 0.25, 0.75)  # halfway between two: of the second step
    assert not is_active(Level(950, 0.6, 0.8), levels, 0.25, 1)
    assert not any(is_active(level, levels, 0.3, 0.5) for level in levels[:-1])


def test_outside_its_steps_the_network_is_not_evaluated(model, monkeypatch):
    control = Control(named("a"), picture(0), end=0.4)
    seen = []
    control.network.register_forward_hook(lambda *_: seen.append(1))
    model.generate("dog", size=(24, 32), seed=1, steps=3, control=control, output="latent")
    assert seen == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": math.nan}, "a ControlNet's strength of nan; expected a number"),
        ({"start": 0.5, "end": 0.5}, "from 0.5 to 0.5 of the steps; expected 0 <= start < end <= 1"),
        ({"end": 1.5}, "from 0.0 to 1.5"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(LdmError, match=message):
        Control(named("a"), picture(0), **options)
