r"""The whole report on an untrained model: every chapter is there, every sheet is written."""

import json
from functools import partial
from inspect import signature

import numpy as np
import pytest
import torch
from PIL import Image

from ldm import cli
from ldm.checkpoints.folder import read_config, write_tensors
from ldm.errors import LdmError
from ldm.lab.evaluate import attention_maps, behaviour, judge_training, report
from ldm.lab.evaluate.judge import FILE, Judge
from ldm.lab.evaluate.metrics import Metric
from ldm.lab.evaluate.setup import FULL, QUICK, Counts, drawings, save
from ldm.train.stages import PRESETS, train_stage
from ldm.unet.unet import UNet
from tests.small import write_small_model

FEW = Counts(prompts=3, drawings=8, examples=6, variety=(2, 3), compared=2, training=3,
             guidance=2, negative=9, sizes=2, attention=2)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_tensors(folder / "judge" / FILE, Judge().state_dict())
    return write_small_model(folder / "small"), folder / "judge"


@pytest.mark.long
def test_every_chapter_is_measured_and_every_sheet_written(folders, tmp_path):
    metrics = report.evaluate(*folders, tmp_path, FEW)
    chapters = list(dict.fromkeys(metric.chapter.split(",")[0].split(":")[0] for metric in metrics))
    assert chapters == [
        "the judge", "the VAE", "CLIP", "adherence", "composition", "guidance", "negative prompts", "sizes",
        "attention", "distributions of 3 images", "diversity", "memorisation",
    ]  # fmt: skip
    assert all(np.isfinite(metric.value) for metric in metrics)
    assert all(0 <= abs(metric.value) <= 1 for metric in metrics if metric.unit == "%")
    with_goals = [metric for metric in metrics if metric.goal is not None]
    rows = {
        "every attribute right", "one of a kind", "uniform walls", "lost without guidance",
        "it is gone with the negative prompt", "no doubled subject", "ratio of the two",
    }  # fmt: skip
    assert rows <= {metric.name for metric in with_goals}
    sheets = {path.name for path in tmp_path.iterdir()}
    assert {"reconstructions.png", "similarity.png", "nearest.png", "guidance.png", "sizes.png"} <= sheets
    assert any(name.startswith("failures-") for name in sheets)
    assert report.evaluate(*folders, tmp_path, FEW) == metrics


def test_the_library_of_training_drawings_is_what_the_shipped_model_is_trained_on():
    trained_on = signature(train_stage).parameters
    recipe = PRESETS[trained_on["preset"].default]
    assert (behaviour.TRAINING_SERIES, FULL.training) == (trained_on["seed"].default, recipe.images)


def test_drawings_are_the_postcards_of_our_series():
    some = drawings("held_out", 3, 16)
    assert len(some.scenes) == 3 and some.pixels.shape == (3, 3, 16, 16)
    assert torch.equal(some.pixels, drawings("held_out", 4, 16).pixels[:3])


def test_a_missing_judge_is_missed_before_anything_is_drawn(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "drawings", None)
    with pytest.raises(LdmError, match="no judge"):
        report.evaluate(folders[0], tmp_path, tmp_path, FEW)


def test_a_sheet_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(LdmError, match="give another place"):
        save(Image.new("RGB", (2, 2)), tmp_path / "taken")


def test_the_command_prints_a_table_or_json(capsys, monkeypatch, tmp_path):
    asked = []

    def measured(*arguments):
        asked.append(arguments)
        return [Metric("sharp", "PSNR", 28.5, "dB", 28.0)]

    monkeypatch.setattr(report, "evaluate", measured)
    assert cli.main(["evaluate", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "PSNR",
        "28.500",
        "dB",
        ">=",
        "28.000",
        "dB",
        "met",
    ]
    assert (
        cli.main(["evaluate", "--json", "--quick", "--model", "m", "--judge", "j", "--out", str(tmp_path)])
        == 0
    )
    assert json.loads(capsys.readouterr().out)[0]["value"] == 28.5
    assert asked == [("tiny", "judge", tmp_path, Counts(), False), ("m", "j", tmp_path, QUICK, False)]
    assert cli.main(["evaluate", "--compile", "--out", str(tmp_path)]) == 0
    assert asked[-1] == ("tiny", "judge", tmp_path, Counts(), True)


def stop(*_):
    raise InterruptedError


def test_a_compiled_unet_is_compiled_before_it_is_used(folders, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(isinstance(module, UNet)))
    monkeypatch.setattr(report, "drawings", stop)  # the first that is done with a model
    for wanted in (False, True):
        with pytest.raises(InterruptedError):
            report.evaluate(*folders, tmp_path, FEW, compiled=wanted)
        assert compiled == [True] * wanted


def test_heads_are_chosen_on_demand_and_the_ranking_is_printed(capsys, tmp_path, monkeypatch):
    mine = write_small_model(tmp_path / "mine")
    monkeypatch.setattr(attention_maps, "store_heads", partial(attention_maps.store_heads, count=2))
    assert cli.main(["evaluate", "--choose-heads", "--model", str(mine)]) == 0
    *ranking, told = capsys.readouterr().out.splitlines()
    chosen = read_config(mine).map_heads
    assert len(ranking) == 8 and sum(line.endswith("*") for line in ranking) == len(chosen) > 0
    assert f"the {len(chosen)} heads marked" in told


def test_the_judge_is_trained_on_demand(capsys, monkeypatch):
    trained = []
    monkeypatch.setattr(
        judge_training, "train_judge", lambda *folders: trained.append([str(f) for f in folders])
    )
    assert cli.main(["evaluate", "--train-judge"]) == 0
    assert trained == [["weights/judge", "runs/judge"]] and "weights/judge" in capsys.readouterr().out
