r"""The noise schedule and the first timesteps of a diffusers folder are those of its own scheduler."""

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers

from ldm.checkpoints.collect import collect
from ldm.checkpoints.schedules import schedule_of
from ldm.checkpoints.write import export
from ldm.diffusion.samplers import find_sampler
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import sampler_levels
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = FAMILIES["sd2-v"]
    place = tmp_path_factory.mktemp("schedules")
    path = save(place / "768-v.safetensors", config, single_file(config, random_tensors(config)))
    export(path, place / "model", "diffusers")
    return place / "model"


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [1000, 400])
def test_alpha_bar_and_timesteps_are_those_of_the_scheduler_in_the_folder(
    folder, steps, beta_schedule, zero_snr
):
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=steps,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule=beta_schedule,
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else "leading",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    theirs.save_pretrained(folder / "scheduler")
    alpha_bar = make_alpha_bar(collect(folder).model.config.noise)
    assert torch.allclose(alpha_bar, theirs.alphas_cumprod, rtol=1e-6, atol=1e-9)
    assert (alpha_bar[-1] == 0) == zero_snr
    theirs.set_timesteps(20)
    levels = sampler_levels(find_sampler("ddim"), 20, alpha_bar)
    assert [level.t for level in levels[:-1]] == theirs.timesteps.tolist()


@pytest.mark.parametrize("zero_snr", [False, True])
def test_trained_betas_are_those_of_the_scheduler(folder, zero_snr):
    whole = diffusers.DDIMScheduler(
        beta_start=0.001, beta_end=0.02, beta_schedule="linear", rescale_betas_zero_snr=zero_snr
    )
    table = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    table |= {"trained_betas": whole.betas.tolist(), "rescale_betas_zero_snr": False}
    if zero_snr:  # where a schedule that was bent ended before cannot be read off its betas
        table |= {"beta_start": 0.001, "beta_end": 0.02}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(table))
    theirs = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    alpha_bar = make_alpha_bar(collect(folder).model.config.noise)
    assert torch.allclose(alpha_bar, theirs.alphas_cumprod, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_table_of_a_checkpoint_is_recognised_in_every_dtype(dtype):
    noise = FAMILIES["sd2-v"].noise
    for zero_snr in (False, True):
        for schedule in ("scaled_linear", "linear"):
            table = diffusers.DDIMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule=schedule, rescale_betas_zero_snr=zero_snr
            ).alphas_cumprod
            found = schedule_of(table.to(dtype), noise)
            assert found == replace(noise, schedule=schedule, zero_snr=zero_snr)
