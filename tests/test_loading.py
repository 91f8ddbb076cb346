r"""`ldm.load`: where a model is looked for."""

import numpy as np
import pytest
import torch

import ldm
from ldm import loading as module
from ldm.errors import LdmError
from ldm.loading import find
from tests.small import CONFIG, write_small_model


@pytest.fixture
def places(tmp_path, monkeypatch):
    r"""An empty working folder, and an empty repository with the package in it."""
    work, package = tmp_path / "work", tmp_path / "repository" / "ldm"
    work.mkdir()
    package.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr(module, "_PACKAGE", package)
    return work, package


def put(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_name_is_found_in_the_package_the_repository_and_the_working_folder_the_latter_first(places):
    work, package = places
    for root in (package, package.parent, work):
        folder = put(root / "weights" / "toy")
        assert find("toy").resolve() == folder


def test_a_folder_in_the_working_folder_goes_before_a_name(places):
    work, _ = places
    put(work / "weights" / "toy")
    folder = put(work / "toy")
    assert find("toy").resolve() == folder


def test_a_path_is_that_folder_and_no_name(places, tmp_path):
    work, _ = places
    folder = put(tmp_path / "elsewhere" / "toy")
    assert find(folder) == find(str(folder)) == folder
    assert find("../elsewhere/toy").resolve() == folder
    put(work / "weights" / "deep" / "toy")
    with pytest.raises(LdmError):
        find("deep/toy")
    assert find("weights/deep/toy").resolve() == work / "weights" / "deep" / "toy"


def test_a_model_that_is_nowhere_is_an_error_that_lists_the_places(places):
    work, package = places
    (work / "weights" / "toy").mkdir(parents=True)  # a folder without config.json is no model
    with pytest.raises(LdmError, match="no model 'toy': no config.json in any of toy, ") as caught:
        find("toy")
    for root in (work, package.parent, package):
        assert str(root / "weights" / "toy") in str(caught.value)


def test_of_a_path_only_that_path_is_listed(places, tmp_path):
    with pytest.raises(LdmError) as caught:
        ldm.load(tmp_path / "no" / "model")
    assert f"in any of {tmp_path / 'no' / 'model'};" in str(caught.value)


def test_load_opens_a_model_that_paints(places):
    work, _ = places
    write_small_model(work / "weights" / "toy")
    by_name, by_path = ldm.load("toy", device="cpu"), ldm.load(work / "weights" / "toy", device="cpu")
    assert by_name.config == CONFIG and not by_name.training
    pictures = [np.asarray(model.generate("red dog", seed=1)[0]) for model in (by_name, by_path)]
    assert (pictures[0] == pictures[1]).all()
    assert ldm.load("toy", torch.bfloat16, "cpu").dtype == torch.bfloat16


def test_the_package_hands_out_load_as_often_as_it_is_asked():
    # A module named ldm.load would take the function's place after its first use.
    assert ldm.load is ldm.load is module.load and ldm.load_clip is module.load_clip
    assert ldm.LatentDiffusion is module.LatentDiffusion
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = ldm.paint


def test_tiny_is_what_is_loaded_when_nothing_is_said(places):
    work, _ = places
    with pytest.raises(LdmError, match="no model 'tiny'"):
        ldm.load()
    with pytest.raises(LdmError, match="no model 'tiny'"):
        ldm.load_clip()
    write_small_model(work / "weights" / "tiny")
    assert ldm.load(device="cpu").config.name == "small"


def test_load_clip_opens_both_encoders_and_their_tokenizer(places):
    work, _ = places
    write_small_model(work / "weights" / "toy")
    clip, tokenizer = ldm.load_clip("toy", device="cpu")
    with torch.no_grad():
        similarity = clip.similarity(torch.zeros(2, 3, 16, 16), tokenizer(["red dog", "dog", "red"]))
    assert similarity.shape == (2, 3) and similarity.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_fastest_device_at_hand_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert module.pick_device() == torch.device(expected)


def test_load_is_still_a_function_after_it_was_used(tmp_path):
    r"""A module ldm/load.py, once imported, would stand in the function's place."""
    write_small_model(tmp_path)
    for use in (ldm.load, ldm.load_clip, ldm.load):
        use(tmp_path, device="cpu")
    assert callable(ldm.load) and callable(ldm.load_clip)
