r"""All five stages, one after the other, on a model too small to learn anything."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import ldm
from ldm.checkpoints.folder import read_config, write_config
from ldm.config import TINY
from ldm.errors import LdmError
from ldm.postcards import sample_scene
from ldm.train import stages
from ldm.train.loop import Recipe
from ldm.train.stages import PRESETS, STAGES, Preset, train_stage
from tests.small import CONFIG


@pytest.fixture
def small_world(monkeypatch, images):
    r"""The same stages with smaller sizes; the list that comes back says which images were asked for."""
    asked = []

    def ready(folder, split, count, size, seed, subjects):
        asked.append((folder, split, count, size, seed, subjects))
        return images(40, split)

    monkeypatch.setattr(stages, "draw_postcards", ready)
    cells = 16 // CONFIG.vae.factor
    monkeypatch.setattr(stages, "draw_importance", lambda *_: np.ones((40, cells, cells), np.float32))
    monkeypatch.setattr(stages, "CAPTIONS", 50)
    recipes = {name: Recipe(2, 4, 1e-3, warmup=1) for name in STAGES[1:]}
    preset = Preset(CONFIG, 20_000, 2_000, recipes, subjects=("lake", "cat"))
    monkeypatch.setattr(stages, "PRESETS", {"full": preset})
    return asked


def test_the_order_is_the_one_in_which_the_stages_need_one_another():
    assert STAGES == ("tokenizer", "clip", "vae", "diffusion", "match")


@pytest.mark.long
def test_the_five_stages_make_a_model_that_is_opened_and_paints(tmp_path, small_world, capsys):
    folder, written = tmp_path / "mine", {}
    for stage in STAGES:
        before = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        train_stage(stage, folder, seed=3)
        after = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        written[stage] = {name for name in after - before if not name.startswith("tokenizer/")}
        if stage != "tokenizer":
            ours = {"log.csv", "checkpoint.pt", "samples-000002.png"}
            assert {f"runs/{stage}/{name}" for name in ours} <= written[stage]
            written[stage] -= {f"runs/{stage}/{name}" for name in ours}
        assert before <= after and f"{stage}: minutes: " in capsys.readouterr().out
    assert written == {
        "tokenizer": {"config.json", "runs/report.json"},
        "clip": {"text.safetensors", "clip.safetensors", "runs/curves.png"},
        "vae": {"vae.safetensors"},
        "diffusion": {"unet.safetensors"},
        "match": set(),
    }
    assert (folder / "tokenizer/merges.txt").is_file()
    # Training and measuring never see the same series, nor the same combinations.
    world = ("lake", "cat")
    seen = (folder / "runs", "train", 20_000, 16, 3, world)
    unseen = (folder / "runs", "held_out", 2_000, 16, 4, world)
    assert small_world == [seen, unseen] * 4

    report = json.loads((folder / "runs/report.json").read_text())
    assert list(report) == list(STAGES)
    assert all(values["minutes"] > 0 and values["preset"] == "full" for values in report.values())
    assert all(values["machine"].endswith(f"cores, torch {torch.__version__}") for values in report.values())
    model = ldm.load(folder, device="cpu")
    assert report["tokenizer"]["vocabulary"] == model.tokenizer.vocab_size == model.config.text.vocab_size
    assert report["vae"]["latent scale"] == model.config.vae.scale
    [image] = model.generate("a dog", seed=1)
    assert image.size == (16, 16) and np.asarray(image).std() > 0
    clip, _ = ldm.load_clip(folder, device="cpu")
    assert torch.equal(clip.text.token_embedding.weight, model.text.token_embedding.weight)


@pytest.mark.usefixtures("small_world")
def test_a_stage_is_told_what_it_alone_is_asked_for(tmp_path, small_world, monkeypatch):
    given = []

    def note(*_, **options):
        given.append(options)
        return {}

    monkeypatch.setattr(stages, "train_vae", note)
    monkeypatch.setattr(stages, "train_diffusion", note)
    monkeypatch.setattr(stages, "write_report", lambda *_: None)
    monkeypatch.setattr(stages, "seconds_spent", lambda _: 0.0)
    monkeypatch.setattr(stages, "plot_losses", lambda *_: None)
    train_stage("tokenizer", tmp_path)
    for name in ("text", "clip", "vae"):
        (tmp_path / f"{name}.safetensors").touch()
    for stage in ("vae", "diffusion"):
        train_stage(stage, tmp_path)
        options = {
            "without": ["perceptual", "adversarial"],
            "compiled": True,
            "start_from": tmp_path / "trained",
        }
        train_stage(stage, tmp_path, **options)
    assert given == [
        {"without": (), "crop": None, "start_from": None},
        {"without": ("perceptual", "adversarial"), "crop": None, "start_from": tmp_path / "trained"},
        {"compiled": False, "start_from": None},
        {"compiled": True, "start_from": tmp_path / "trained"},
    ]


@pytest.mark.usefixtures("small_world")
def test_a_stage_before_its_turn_says_what_is_missing_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "load_images", lambda *_: pytest.fail("drawn in vain"))
    with pytest.raises(LdmError, match="no config.json"):
        train_stage("clip", tmp_path)
    train_stage("tokenizer", tmp_path)
    with pytest.raises(LdmError, match="text.safetensors is missing"):
        train_stage("diffusion", tmp_path)
    assert json.loads((tmp_path / "runs/report.json").read_text()).keys() == {"tokenizer"}


@pytest.mark.usefixtures("small_world")
@pytest.mark.long
def test_fewer_steps_can_be_asked_for(tmp_path):
    train_stage("tokenizer", tmp_path)
    for steps, expected in ((1, 1), (None, 2)):
        train_stage("clip", tmp_path, steps=steps)
        assert torch.load(tmp_path / "runs/clip/checkpoint.pt", weights_only=True)["step"] == expected


@pytest.mark.long
@pytest.mark.usefixtures("small_world")
def test_a_finished_model_is_resumed_without_a_step_and_its_inputs_must_be_the_same(tmp_path):
    for stage in STAGES:
        train_stage(stage, tmp_path)
    files = list(tmp_path.glob("*.safetensors"))
    before = {path: path.read_bytes() for path in files}
    minutes = {
        name: v["minutes"] for name, v in json.loads((tmp_path / "runs/report.json").read_text()).items()
    }
    for stage in STAGES:  # the VAE has written its scale to config.json since CLIP was trained
        train_stage(stage, tmp_path, resume=True)
    assert {path: path.read_bytes() for path in files} == before and len(files) == 4
    again = json.loads((tmp_path / "runs/report.json").read_text())
    assert all(again[name]["minutes"] == minutes[name] for name in STAGES[1:])

    weights = tmp_path / "vae.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(LdmError, match=r"another run: vae.safetensors was \w{16} and is \w{16}\. Give"):
        train_stage("diffusion", tmp_path, resume=True)
    with pytest.raises(LdmError, match=r"recipe.steps was 2 and is 1; seed was 0 and is 1\. Give"):
        train_stage("clip", tmp_path, seed=1, steps=1, resume=True)


def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_drawn(tmp_path, small_world):
    (tmp_path / "file").touch()
    for stage in ("tokenizer", "clip"):
        with pytest.raises(LdmError, match="cannot write to .+file|no config.json"):
            train_stage(stage, tmp_path / "file")
    assert small_world == []


@pytest.mark.long
def test_a_model_of_one_preset_is_not_trained_with_the_recipe_of_another(tmp_path, small_world):
    other = replace(CONFIG, name="other")
    stages.PRESETS["quick"] = replace(stages.PRESETS["full"], config=other)
    train_stage("tokenizer", tmp_path, preset="quick")
    for stage in STAGES[:2]:
        with pytest.raises(
            LdmError, match="the model 'other' of the preset quick.+--preset quick, or another"
        ):
            train_stage(stage, tmp_path)
    assert small_world == []
    train_stage("clip", tmp_path, preset="quick")
    # A custom config belongs to no preset.
    write_config(tmp_path, replace(read_config(tmp_path), name="mine"))
    train_stage("clip", tmp_path)


def test_what_a_preset_leaves_out_adds_to_what_is_asked_to_be_left_out(tmp_path, small_world, monkeypatch):
    given = []
    monkeypatch.setattr(stages, "train_vae", lambda *_, **options: given.append(options) or {})
    monkeypatch.setattr(stages, "write_report", lambda *_: None)
    monkeypatch.setattr(stages, "seconds_spent", lambda _: 0.0)
    monkeypatch.setattr(stages, "plot_losses", lambda *_: None)
    stages.PRESETS["full"] = replace(stages.PRESETS["full"], without=("adversarial",), crop=16)
    train_stage("tokenizer", tmp_path)
    for name in ("text", "clip"):
        (tmp_path / f"{name}.safetensors").touch()
    train_stage("vae", tmp_path, without=["kl"])
    assert given == [{"without": ("adversarial", "kl"), "crop": 16, "start_from": None}]


def test_every_preset_has_a_recipe_for_every_stage_that_learns_by_steps():
    assert list(PRESETS) == ["quick", "full"]
    for preset in PRESETS.values():
        assert list(preset.recipes) == list(STAGES[1:])
    for stage in STAGES[1:]:
        quick, full = PRESETS["quick"].recipes[stage], PRESETS["full"].recipes[stage]
        assert quick.steps < full.steps
    assert PRESETS["full"].config is TINY and PRESETS["quick"].config.defaults.size < TINY.defaults.size


def test_every_presets_world_has_what_the_demo_asks_for_and_combinations_to_hold_out():
    for preset in PRESETS.values():
        assert {"lake", "forest", "dog"} <= set(preset.subjects)
        rng = np.random.default_rng(0)
        places = {sample_scene(rng, "held_out", preset.subjects).place for _ in range(100)}
        assert "" in places and places & set(preset.subjects)  # animals before a wall, and landscapes


@pytest.mark.usefixtures("small_world")
def test_the_training_images_know_what_counts_in_them_and_the_measured_ones_do_not(tmp_path):
    train_stage("tokenizer", tmp_path)
    seen, measured = stages.load_images(tmp_path, stages.PRESETS["full"], 0, None)
    assert seen.importance is not None and measured.importance is None
