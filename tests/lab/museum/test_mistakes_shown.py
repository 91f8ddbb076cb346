r"""The pieces of the museum: a module patched in memory, the first layer that differs, what one sees."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ldm.config import TINY
from ldm.errors import LdmError
from ldm.lab.museum import patched_import
from ldm.lab.museum.files import FORMS, description
from ldm.lab.museum.layers import beginning, recorded
from ldm.lab.museum.mistake import Mistake, Setting, changed_lines, patched
from ldm.lab.museum.painting import Run, exhibit, show, strip
from ldm.lab.museum.rooms import MISTAKES, ROOMS, find_mistake
from ldm.lab.museum.scenes import SHOWS, run
from ldm.lab.museum.standins import STANDINS
from ldm.lab.museum.symptoms import SYMPTOMS, measures, symptom
from ldm.lab.museum.words import numbers_words, off, setting_words
from tests.conftest import REPOSITORY

TINY_FOLDER = REPOSITORY / "weights" / "tiny"
DOUBLED = Mistake("99", "doubled", "lab/museum/sample.py", "return x", "return 2 * x", "it happens")


# --- the list ---------------------------------------------------------------------------------------------


def test_every_mistake_is_in_one_room_and_says_why_it_is_easy_to_make():
    assert sorted(m.number for room in ROOMS for m in room.MISTAKES) == sorted(m.number for m in MISTAKES)
    for mistake in MISTAKES:
        assert mistake.why.endswith((".", '"')) and len(mistake.why) > 60, mistake.number
        assert mistake.setting.file in FORMS and mistake.standin in {"", *STANDINS}, mistake.number
        assert mistake.setting.show in {*SHOWS, "similarity"}, mistake.number


def test_links_lead_to_threads_on_github_and_each_says_what_was_seen():
    for mistake in MISTAKES:
        for address, what in mistake.seen:
            assert address.startswith("https://github.com/") and what, mistake.number
            assert address.split("/")[5] in ("issues", "pull", "discussions"), address


def test_an_unknown_number_names_those_that_are_near():
    with pytest.raises(LdmError, match="no mistake has the number '5c'; did you mean 5a or 5b"):
        find_mistake("5c")


def test_changed_lines_are_those_of_the_source_without_their_indentation():
    source = "def f(x):\n    if x:\n        return x\n"
    assert changed_lines(source, DOUBLED) == ["- return x", "+ return 2 * x"]
    with pytest.raises(LdmError, match="stands 0 times"):
        patched("pass\n", DOUBLED)


# --- a module patched in memory ---------------------------------------------------------------------------


@pytest.fixture
def sample(monkeypatch, tmp_path) -> Path:
    r"""`ldm.lab.museum.sample`, a module of one function, for as long as the test runs."""
    import ldm.lab.museum

    file = tmp_path / "sample.py"
    file.write_text("def f(x):\n    return x\n", encoding="utf-8")
    monkeypatch.setattr(ldm.lab.museum, "__path__", [*ldm.lab.museum.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield file
    sys.modules.pop("ldm.lab.museum.sample", None)


def test_a_patched_module_has_the_mistake_and_its_file_has_not(sample):
    patched_import.make(DOUBLED)
    from ldm.lab.museum.sample import f  # type: ignore[import-not-found]

    assert f(3) == 6 and "2 * x" not in sample.read_text(encoding="utf-8")


def test_a_module_that_is_imported_already_is_not_patched(sample):
    import ldm.lab.museum.sample  # noqa: F401

    with pytest.raises(LdmError, match="imported already"):
        patched_import.make(DOUBLED)


# --- the first layer that differs -------------------------------------------------------------------------


def outputs(second: float, x: torch.Tensor):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(second if name == "2.weight" else 0.5)
        with recorded(model) as seen:
            model(x)
            model(0 * x)  # only the first call counts
    return seen


def test_a_difference_begins_at_the_first_layer_whose_output_differs():
    x = torch.tensor([[1.0, 2.0]])
    right = outputs(1.0, x)
    assert list(right) == ["0", "2"] and beginning(right, outputs(1.0, x)) is None
    found = beginning(right, outputs(2.0, x))
    assert found is not None and found.place == "2"
    assert found.difference == pytest.approx(4 / 4.5)  # 2 + 2 + 0.5 against twice (2 + 2), and 0.5
    assert beginning(right, outputs(1.0, 2 * x)).place == "0"


def test_a_layer_that_does_not_run_or_has_another_shape_differs_infinitely():
    right, longer = outputs(1.0, torch.ones(1, 2)), outputs(1.0, torch.ones(3, 2))
    assert beginning(right, {"0": right["0"]}).difference == float("inf")
    assert beginning(right, longer).difference == float("inf")
    assert "does not run" in off(float("inf")) and off(0.48) == "48 % off" and off(3e-5) == "3e-05 off"


# --- what one sees ----------------------------------------------------------------------------------------


def scene() -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    disc = (x - 40) ** 2 + (y - 30) ** 2 < 200
    return np.stack([80 + 100 * disc, 90 + 60 * disc, 160 - 90 * disc], axis=2).astype(np.float64)


def wave(step: int) -> np.ndarray:
    return 70 * np.sign(np.sin(np.arange(64) * np.pi / step))[:, None, None]


NOISE = np.random.RandomState(0).randn(64, 64, 3)
SEEN = {
    "same": lambda a: a,
    "nearly": lambda a: a + 0.6 * NOISE,
    "black": lambda a: 0 * a,
    "noise": lambda a: 128 + 60 * NOISE,
    "striped": lambda a: 0.3 * a + 90 + wave(3),
    "shifted": lambda a: np.roll(a, (4, 3), (0, 1)),
    "dark": lambda a: 0.4 * a,
    "bright": lambda a: 110 + 0.9 * (a - a.min()),
    "washed out": lambda a: a.mean() + 0.4 * (a - a.mean()),
    "contrasted": lambda a: a.mean() + 2 * (a - a.mean()),
    "another": lambda a: a[:, :, ::-1],
}


@pytest.mark.parametrize("name", SEEN)
def test_a_symptom_is_recognised(name):
    right, wrong = (
        Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
        for pixels in (scene(), SEEN[name](scene()))
    )
    assert symptom(measures(right, wrong)) == name


def test_a_good_image_that_does_not_fit_the_prompt_ignores_it():
    right, wrong = (Image.fromarray(a.astype(np.uint8)) for a in (scene(), scene()[:, :, ::-1]))
    assert symptom(measures(right, wrong), follows=0.3) == "prompt"
    assert set(SYMPTOMS) >= {*SEEN, "prompt", "refused", "admitted", "details", "blurred"}


def test_where_there_is_no_image_the_strip_has_what_was_said_and_the_symptom_says_who_refused():
    image, refused = Run(Image.new("RGB", (128, 128)), "", {}), Run(None, "it has no VAE", {})
    mistake = MISTAKES[0]
    assert exhibit(mistake, image, refused, TINY_FOLDER).symptom == "refused"
    assert exhibit(mistake, refused, image, TINY_FOLDER).symptom == "admitted"
    assert exhibit(mistake, image, Run(None, "a number is not finite", {}), TINY_FOLDER).symptom == "black"
    assert strip(refused, image).size == (260, 128) and strip(image, image).size == (392, 128)
    assert list(numbers_words(exhibit(mistake, refused, image, TINY_FOLDER))) == ["Right: it has no VAE"]


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STANDINS)
def test_a_standin_changes_the_config_and_only_a_little(name):
    config = replace(TINY, vae=replace(TINY.vae, scale=0.5))
    changed = STANDINS[name](config)
    parts = [
        part for part in ("text", "vae", "unet", "noise") if getattr(changed, part) != getattr(config, part)
    ]
    assert len(parts) == 1 and replace(changed, **{parts[0]: getattr(config, parts[0])}) == config


def test_a_setting_is_told_in_words():
    told = setting_words(Setting(options={"sampler": "ddim", "steps": 5}, file="diffusers"))
    assert told == 'the prompt "a dog with glasses", seed 42, sampler ddim, 5 steps, from a diffusers folder'
    assert all(description(form) for form in FORMS)


def test_the_vae_shows_a_drawing_and_names_its_layers():
    found = run(Setting(show="round trip"), TINY_FOLDER, TINY_FOLDER, None)
    assert found["image"].shape == (128, 128, 3)
    assert list(found["places"][:2]) == ["the image's pixels", "vae.encoder.conv_in"]
    assert "vae.decoder.post_quant_conv" in found["places"]


@pytest.mark.long
def test_a_mistake_is_shown_from_its_own_process_and_again_from_what_was_kept(tmp_path):
    first, image = show(find_mistake("2"), TINY_FOLDER, tmp_path)
    assert first.symptom == "shifted" and first.beginning.place == "vae.encoder.down.0.downsample.conv"
    kept = sorted(path.name for path in tmp_path.iterdir())
    again, same = show(find_mistake("2"), TINY_FOLDER, tmp_path)
    assert again == first and sorted(path.name for path in tmp_path.iterdir()) == kept
    assert (np.asarray(image) == np.asarray(same)).all()


@pytest.mark.long
@pytest.mark.parametrize("form", sorted(set(FORMS) - {"ours"}))
def test_a_form_of_the_model_is_opened_or_refused_with_a_reason(form, tmp_path):
    file = FORMS[form](TINY_FOLDER, tmp_path)
    found = run(Setting(options={"steps": 1}), file, TINY_FOLDER, None)
    refused = {"half_averaged": "incomplete", "incomplete": "missing", "scaled": "fp8", "stowaway": "getcwd"}
    if form == "incomplete_clip":
        found = run(Setting(show="similarity"), file, TINY_FOLDER, None)
        refused[form] = "logit_scale"
    assert refused[form] in found["said"] if form in refused else "image" in found
