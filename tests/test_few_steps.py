r"""Whole runs of models for few steps, in the settings of their model cards: against diffusers' pipeline."""

import pytest
import torch

from ldm.errors import LdmError
from ldm.unet import added, embedding
from tests.golden.compare import assert_same, golden
from tests.golden.few_steps import few_step_model, looked_up, with_noise
from tests.golden.sdxl import recorded_sinusoids

MODELS = {
    "eps": lambda: few_step_model(),
    "x0": lambda: few_step_model(prediction="x0"),
    "told": lambda: few_step_model(told=True),
}
RUNS = {
    "lcm": ("told", {"sampler": "lcm", "steps": 4, "guidance": 8.0}),
    "lcm, faint": ("told", {"sampler": "lcm", "steps": 2, "guidance": 1.3}),
    "lcm-lora": ("eps", {"sampler": "lcm", "steps": 4}),
    "lcm-lora, guided": ("eps", {"sampler": "lcm", "steps": 2, "guidance": 1.5, "negative": "dog"}),
    "lightning": ("eps", {"sampler": "euler_trailing", "steps": 4}),
    "lightning, 1 step": ("x0", {"sampler": "euler_trailing", "steps": 1}),
    "turbo": ("eps", {"sampler": "euler_ancestral_trailing", "steps": 1}),
    "turbo, 4 steps": ("eps", {"sampler": "euler_ancestral_trailing", "steps": 4}),
    "hyper": ("eps", {"sampler": "ddim_trailing", "steps": 4}),
    "tcd": ("eps", {"sampler": "tcd", "steps": 4}),
    "dmd2": ("eps", {"sampler": "lcm_trailing", "steps": 4}),
}


@pytest.fixture(scope="module")
def models():
    return {name: build() for name, build in MODELS.items()}


@pytest.fixture
def expected(monkeypatch):
    arrays = golden("few_steps")
    for module in (added, embedding):
        monkeypatch.setattr(module, "timestep_embedding", recorded_sinusoids(arrays))
    monkeypatch.setattr(embedding, "guidance_embedding", looked_up(arrays))
    return arrays


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.replace(",", "").replace(" ", "-"))
def test_a_whole_run_equals_the_reference(models, expected, run):
    which, options = RUNS[run]
    model, noise = models[which], expected["run/noise"]
    with_noise(model, noise.shape)
    x = model.generate("red dog", **{"guidance": 1.0, **options}, latents=noise, output="latent")
    assert_same(x, expected[f"run/{run}"])


def test_every_recorded_run_is_compared():
    assert {name.removeprefix("run/") for name in golden("few_steps") if name.startswith("run/")} == {
        *RUNS,
        "noise",
    }


def test_a_model_that_is_told_the_guidance_is_evaluated_once_a_step_and_needs_no_negative_prompt(models):
    model, seen = models["told"], []
    hook = model.unet.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    noise = torch.ones(2, 4, 16, 12, dtype=torch.float64)
    options = {"latents": noise, "steps": 1, "sampler": "lcm", "output": "latent"}
    plain = model.generate("dog", **options, guidance=8.0)
    assert torch.equal(plain, model.generate("dog", "red dog", **options, guidance=8.0))
    assert not torch.allclose(plain, model.generate("dog", **options, guidance=7.0), atol=1e-4)
    hook.remove()
    assert seen == [2, 2, 2]
    model.denoiser(model.encode_text(["dog"]), guidance=8.0)  # no `uncond`
    with pytest.raises(LdmError, match="a guidance interval with a latent consistency model"):
        model.generate("dog", **options, guidance_interval=(0.3, 5.0))


def test_a_guidance_of_1_is_told_as_0_and_differs_from_none_being_told(models):
    model = models["told"]
    context = model.encode_text(["dog"])
    with pytest.raises(LdmError, match="this U-Net reads a guidance scale, and got none as `w`"):
        model.predict(torch.zeros(1, 4, 8, 8).double(), model.levels("lcm", 1)[0], context)
    with pytest.raises(LdmError, match="does not read a guidance scale, and got one as `w`"):
        models["eps"].unet(torch.zeros(1, 4, 8, 8), torch.tensor(1), context.context, w=torch.zeros(1))
