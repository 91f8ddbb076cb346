r"""All four stages, one after the other, on a model too small to learn anything."""

import json
from functools import partial

import numpy as np
import pytest
import torch

import ldm
from ldm.errors import LdmError
from ldm.train import stages
from ldm.train.loop import Recipe
from ldm.train.stages import RECIPES, STAGES, train_stage
from tests.small import CONFIG


@pytest.fixture
def small_world(monkeypatch, pictures):
    r"""The same stages with smaller sizes; the list that comes back says which pictures were asked for."""
    asked = []

    def ready(folder, split, count, size, seed):
        asked.append((folder, split, count, size, seed))
        return pictures(40, split, repeat=26)

    monkeypatch.setattr(stages, "draw_pictures", ready)
    monkeypatch.setattr(stages, "TINY", CONFIG)
    monkeypatch.setattr(stages, "train_tokenizer", partial(stages.train_tokenizer, captions=50))
    monkeypatch.setattr(stages, "RECIPES", {name: Recipe(2, 4, 1e-3, warmup=1) for name in RECIPES})
    return asked


def test_the_order_is_the_one_in_which_the_stages_need_one_another():
    assert STAGES == ("tokenizer", "clip", "vae", "diffusion")


def test_the_four_stages_make_a_model_that_is_opened_and_paints(tmp_path, small_world, capsys):
    folder, written = tmp_path / "mine", {}
    for stage in STAGES:
        before = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        train_stage(stage, folder, seed=3)
        after = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        written[stage] = {name for name in after - before if not name.startswith("tokenizer/")}
        assert before <= after and f"{stage}: minutes: " in capsys.readouterr().out
    assert written == {
        "tokenizer": {"config.json", "runs/report.json"},
        "clip": {"text.safetensors", "clip.safetensors", "runs/clip/log.csv", "runs/clip/checkpoint.pt"},
        "vae": {"vae.safetensors", "runs/vae/log.csv", "runs/vae/checkpoint.pt"},
        "diffusion": {"unet.safetensors", "runs/diffusion/log.csv", "runs/diffusion/checkpoint.pt"},
    }
    assert (folder / "tokenizer/merges.txt").is_file()
    # Training and measuring never see the same series, nor the same combinations.
    train, held_out = (folder / "runs", "train", 20_000, 16, 3), (folder / "runs", "held_out", 2_000, 16, 4)
    assert small_world == [train, held_out] * 3

    report = json.loads((folder / "runs/report.json").read_text())
    assert list(report) == list(STAGES)
    assert all(values["minutes"] > 0 for values in report.values())
    model = ldm.load(folder, device="cpu")
    assert report["tokenizer"]["vocabulary"] == model.tokenizer.vocab_size == model.config.text.vocab_size
    assert report["vae"]["latent scale"] == model.config.vae.scale
    [image] = model.generate("a dog", seed=1)
    assert image.size == (16, 16) and np.asarray(image).std() > 0
    clip, _ = ldm.load_clip(folder, device="cpu")
    assert torch.equal(clip.text.token_embedding.weight, model.text.token_embedding.weight)


@pytest.mark.usefixtures("small_world")
def test_a_stage_before_its_turn_says_what_is_missing(tmp_path):
    with pytest.raises(LdmError, match="no config.json"):
        train_stage("clip", tmp_path)
    train_stage("tokenizer", tmp_path)
    with pytest.raises(LdmError, match="text.safetensors is missing"):
        train_stage("diffusion", tmp_path)
    assert json.loads((tmp_path / "runs/report.json").read_text()).keys() == {"tokenizer"}


@pytest.mark.usefixtures("small_world")
def test_fewer_steps_can_be_asked_for(tmp_path):
    train_stage("tokenizer", tmp_path)
    train_stage("vae", tmp_path, steps=1)
    assert torch.load(tmp_path / "runs/vae/checkpoint.pt", weights_only=True)["step"] == 1
    train_stage("vae", tmp_path, resume=True)
    assert torch.load(tmp_path / "runs/vae/checkpoint.pt", weights_only=True)["step"] == 2
