r"""Paths as people have them: home folders, the hub's cache, downloads, links."""

import os
from pathlib import Path

import pytest

import ldm
from ldm.checkpoints.finding import find
from ldm.checkpoints.inspect import inspect
from ldm.checkpoints.locating import locate
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.small import write_small_model

CONFIG = FAMILIES["sd1"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    r"""A home folder with nothing in it, and no place for the hub's cache but there."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def checkpoint(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(path, CONFIG, single_file(CONFIG, random_tensors(CONFIG)))


def cached(hub: Path, name: str, main: str | None, *commits: str) -> Path:
    r"""A model in a hub's cache: a link to a blob in each snapshot, and what refs/main says."""
    folder = hub / name
    blob = checkpoint(folder / "blobs" / "0123abcd")
    for commit in commits:
        place = folder / "snapshots" / commit / "v1-5.safetensors"
        place.parent.mkdir(parents=True)
        place.symlink_to(os.path.relpath(blob, place.parent))
    if main is not None:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(main)
    return folder


def test_the_home_folder_is_expanded_for_models_configs_and_reports(home):
    path = checkpoint(home / "v1-5.safetensors")
    (home / "config.json").write_text(CONFIG.to_json())
    assert ldm.load("~/v1-5.safetensors", device="cpu", config="~/config.json").config == CONFIG
    assert find("~/v1-5.safetensors") == path
    assert inspect(Path("~/v1-5.safetensors"), hash=False).supported


def test_a_dollar_is_left_to_the_shell(home):
    path = checkpoint(home.parent / "$HOME" / "x.safetensors")
    assert find("$HOME/x.safetensors").resolve() == path


@pytest.mark.parametrize("main", ["one", "one\n", None])
def test_a_folder_of_the_hubs_cache_is_the_snapshot_that_main_names_or_the_only_one(home, main):
    folder = cached(home, "models--org--name", main, "one", *(["two"] if main else []))
    expected = folder / "snapshots" / "one" / "v1-5.safetensors"
    for place in (folder, folder / "snapshots", folder / "snapshots" / "one"):
        assert find(place) == expected
    assert ldm.load(folder, device="cpu").config.name == "sd1"


def test_a_cache_in_which_nothing_says_which_snapshot_is_an_error_that_names_them(home):
    folder = cached(home, "models--org--name", "../../elsewhere", "one", "two")
    with pytest.raises(LdmError, match="a hub cache with one, two in snapshots/, and refs/main names none"):
        find(folder)


def test_organisation_and_name_are_found_in_the_cache_on_this_machine(home, monkeypatch):
    hub = home / ".cache" / "huggingface" / "hub"
    folder = cached(hub, "models--org--name", "one", "one")
    assert find("org/name") == folder / "snapshots" / "one" / "v1-5.safetensors"
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "other"))
    with pytest.raises(
        LdmError, match="no model 'org/name': none in org/name, .*other/models--org--name; give"
    ):
        find("org/name")


def test_a_snapshot_whose_blob_is_gone_is_a_broken_link(home):
    folder = cached(home, "models--org--name", "one", "one")
    (folder / "blobs" / "0123abcd").unlink()
    with pytest.raises(
        LdmError, match=r"v1-5.safetensors: it is a broken link: it points to .*0123abcd, which"
    ):
        find(folder)


def test_a_part_of_a_folder_that_is_a_broken_link_is_called_so(home):
    (home / "unet").mkdir(parents=True)
    (home / "unet" / "config.json").write_text("{}")
    (home / "unet" / "diffusion_pytorch_model.safetensors").symlink_to("gone")
    with pytest.raises(
        LdmError, match="model.safetensors: it is a broken link: it points to gone, which does"
    ):
        ldm.load(home)
    (home / "linked").symlink_to("nowhere")
    with pytest.raises(
        LdmError, match=r"linked is a broken link: it points to nowhere, which does not exist"
    ):
        find(home / "linked" / "model.safetensors")


def test_a_folder_with_one_checkpoint_in_it_is_that_checkpoint(home):
    path = checkpoint(home / "download" / "v1-5.SAFETENSORS")
    for name in ("README.md", ".cache/x", "config.yaml", ".hidden.safetensors"):
        (home / "download" / name).parent.mkdir(exist_ok=True)
        (home / "download" / name).write_text("x")
    assert find(home / "download") == path
    (home / "download" / "config.json").write_text("{}")  # of something else
    assert ldm.load(home / "download", device="cpu").config.name == "sd1"


def test_of_several_checkpoints_in_a_folder_one_is_to_be_chosen(home):
    for name in ("a.ckpt", "b.safetensors"):
        (home / name).write_text("x")
    with pytest.raises(LdmError, match="has 2 checkpoints: a.ckpt, b.safetensors; give one of them"):
        find(home)


def test_a_folder_with_none_and_one_of_ours_without_its_config_are_told_apart(home):
    with pytest.raises(LdmError, match="is a folder with no checkpoint in it"):
        find(home)
    write_small_model(home / "toy")
    (home / "toy" / "config.json").unlink()
    with pytest.raises(LdmError, match="toy has no config.json, so the folder is incomplete"):
        find(home / "toy")


def test_a_name_under_weights_goes_before_a_folder_of_that_name_with_nothing_in_it(home):
    (home.parent / "toy").mkdir()
    write_small_model(home.parent / "weights" / "toy")
    assert find("toy").resolve() == home.parent / "weights" / "toy"


def test_the_index_of_a_diffusers_folder_stands_for_the_folder(home):
    (home / "model_index.json").write_text("{}")
    assert locate(home / "model_index.json") == home


def test_a_name_that_is_a_broken_link_under_weights_is_called_one_first(home):
    (home.parent / "weights").mkdir()
    (home.parent / "weights" / "sd15.ckpt").symlink_to("/nowhere/blob")
    with pytest.raises(
        LdmError, match="^no model 'sd15.ckpt': cannot read .*it is a broken link: it points to"
    ):
        find("sd15.ckpt")


@pytest.mark.parametrize("name", ["nowhere/at/all.safetensors", "x.txt/below.safetensors"])
def test_what_is_missing_is_called_missing_once(home, name):
    (home / "x.txt").write_text("a file, and no folder")
    with pytest.raises(LdmError) as caught:
        find(home / name)
    assert str(caught.value) == f"there is no model {home / name}; give a checkpoint's file or folder"


def test_what_may_not_be_read_is_called_so(home, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ldm.checkpoints.locating.os.stat", refuse)
    with pytest.raises(LdmError, match=f"cannot read {home / 'x'}: Permission denied; give another"):
        find(home / "x")


@pytest.mark.parametrize("name", ["x\0y", "x" * 5000, "https://example.org/x.safetensors"])
def test_names_that_no_file_can_have_are_our_error(home, name):
    with pytest.raises(LdmError):
        find(name)
