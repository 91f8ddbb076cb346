r"""A LoRA for few steps changes the defaults of the model that it is merged into, and nothing that the caller gives."""

import logging

import pytest
import torch

from ldm.checkpoints.lora_about import about
from ldm.checkpoints.lora_file import open_lora
from ldm.config import Defaults
from ldm.diffusion.samplers import find_sampler
from ldm.loading import load
from tests.cli.test_lora import write_lora
from tests.small import CONFIG, write_small_model

OPTIONS = {"prompt": "dog", "seed": 1, "output": "latent"}


@pytest.fixture
def model(tmp_path):
    write_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors", 1)
    write_lora(tmp_path / "tcd.safetensors", 2)
    write_lora(tmp_path / "ink.safetensors", 3)
    return load(write_small_model(tmp_path / "model"))


def chosen(model) -> tuple[str, int, float]:
    own: Defaults = model.defaults
    return own.sampler, own.steps, own.guidance


USUAL = (CONFIG.defaults.sampler, CONFIG.defaults.steps, CONFIG.defaults.guidance)


def test_its_sampler_steps_and_guidance_become_the_defaults_and_a_line_says_so(model, tmp_path, caplog):
    assert chosen(model) == USUAL
    with caplog.at_level(logging.INFO):
        lora = model.load_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors")
    assert chosen(model) == ("euler_trailing", 2, 1.0)
    [line] = [r.getMessage() for r in caplog.records if "Lightning" in r.getMessage()]
    assert line.endswith(
        "is SDXL-Lightning, by its name: by default 2 steps of euler_trailing, guidance 1 (--steps, --sampler, "
        "--guidance)"
    )
    given = {"sampler": "euler_trailing", "steps": 2, "guidance": 1.0}
    assert torch.equal(model.generate(**OPTIONS), model.generate(**OPTIONS, **given))
    model.unload(lora)
    assert chosen(model) == USUAL and model.defaults is model.config.defaults


@pytest.mark.parametrize(
    "given", [{"sampler": "ddim"}, {"steps": 3}, {"guidance": 4.0}, {"spacing": "karras"}], ids="-".join
)
def test_what_the_caller_gives_wins(model, tmp_path, given):
    model.load_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors")
    others = {"sampler": "euler_trailing", "steps": 2, "guidance": 1.0} | given
    found = model.generate(**OPTIONS, **given)
    assert torch.equal(found, model.generate(**OPTIONS, **others))
    assert not torch.equal(found, model.generate(**OPTIONS))


def test_the_last_of_several_decides_and_one_that_is_subtracted_or_a_style_does_not(model, tmp_path):
    model.load_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors")
    model.load_lora(tmp_path / "ink.safetensors", 0.5)
    assert chosen(model) == ("euler_trailing", 2, 1.0)
    model.load_lora(tmp_path / "tcd.safetensors")
    assert chosen(model) == ("tcd", 4, 1.0)
    model.unload()
    model.load_lora(tmp_path / "tcd.safetensors", -1.0)
    assert chosen(model) == USUAL


def test_a_tag_in_a_prompt_changes_the_defaults_for_its_images_alone(model, tmp_path):
    plain = model.generate(**OPTIONS)
    tagged = model.generate(**OPTIONS | {"prompt": "dog <lora:sdxl_lightning_2step_lora>"})
    assert torch.equal(model.generate(**OPTIONS), plain)
    model.load_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors")
    assert torch.equal(model.generate(**OPTIONS), tagged) and not torch.equal(tagged, plain)


def test_the_title_in_the_metadata_or_the_folder_tells_as_well(model, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "ink.safetensors")
    save_file(tensors, tmp_path / "x.safetensors", {"ss_output_name": "my-LCM-lora"})
    (tmp_path / "tcd-lora").mkdir()
    save_file(tensors, tmp_path / "tcd-lora/pytorch_lora_weights.safetensors")
    model.load_lora(tmp_path / "x.safetensors")
    assert chosen(model) == ("lcm", 4, 1.0)
    model.load_lora(tmp_path / "tcd-lora")
    assert chosen(model) == ("tcd", 4, 1.0)


def test_other_samplers_get_their_own_number_of_steps(model, tmp_path):
    model.load_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors")
    assert model.default_steps("euler_trailing") == 2
    assert model.default_steps("plms") == find_sampler("plms").min_default_steps


def test_inspect_says_how_to_sample_with_it(model, tmp_path):
    assert dict(about(open_lora(tmp_path / "sdxl_lightning_2step_lora.safetensors")))["sampling"].startswith(
        "SDXL-Lightning, by its name: by default 2 steps of euler_trailing, guidance 1"
    )
    assert "sampling" not in dict(about(open_lora(tmp_path / "ink.safetensors")))
