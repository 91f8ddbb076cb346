r"""The training images: drawn once, stored, and always the same."""

from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.postcards import caption, draw_with_boxes, held_out, postcard, sample_scene, wrong_caption
from ldm.train import data
from ldm.train.data import CaptionedImages, draw_importance, draw_postcards
from ldm.train.importance import importance


class InThisProcess(Executor):
    r"""Stands in for the process pool, whose processes take a second each to start."""

    workers: list[int] = []

    def __init__(self, max_workers, mp_context, initializer, initargs):
        self.workers.append(max_workers)

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(data, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(InThisProcess, "workers", [])
    return InThisProcess


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_scenes_and_pixels_are_those_of_the_postcards(tmp_path, split):
    images = draw_postcards(tmp_path, split, 6, 16, seed=9)
    assert len(images) == 6 and images.pixels.shape == (6, 16, 16, 3)
    for i in range(6):
        card = postcard(i, seed=9, size=16, split=split)
        assert images.scenes[i] == card.scene
        assert (images.pixels[i] == np.asarray(card.image)).all()


@pytest.mark.usefixtures("in_this_process")
def test_in_a_smaller_world_pixels_are_those_of_its_scenes(tmp_path):
    few = ("cat", "lake")
    images = draw_postcards(tmp_path, "train", 6, 16, seed=9, subjects=few)
    for i in range(6):
        card = postcard(i, seed=9, size=16, subjects=few)
        shown = {card.scene.place, *(animal.kind for animal in card.scene.animals)} - {""}
        assert shown <= set(few) and images.scenes[i] == card.scene
        assert (images.pixels[i] == np.asarray(card.image)).all()


@pytest.mark.long
def test_processes_draw_what_this_process_draws(tmp_path):
    images = draw_postcards(tmp_path, "train", 2, 16)
    assert (images.pixels[1] == np.asarray(postcard(1, 0, 16).image)).all()


@pytest.mark.parametrize(("cores", "count", "workers"), [(64, 65, 2), (2, 1000, 2), (None, 1000, 1)])
def test_no_more_processes_are_started_than_have_work(
    tmp_path, monkeypatch, in_this_process, cores, count, workers
):
    monkeypatch.setattr(data.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(data, "_draw", lambda index, size, **_: np.zeros((size, size, 3)))
    draw_postcards(tmp_path, "train", count, 1)
    assert in_this_process.workers == [workers]


@pytest.mark.usefixtures("in_this_process")
def test_images_are_drawn_once_and_then_read(tmp_path, monkeypatch):
    first = draw_postcards(tmp_path, "train", 3, 16)

    def never(*_, **__):
        raise AssertionError("drawn again")

    monkeypatch.setattr(data, "ProcessPoolExecutor", never)
    second = draw_postcards(tmp_path, "train", 3, 16)
    assert (first.pixels == second.pixels).all() and first.scenes == second.scenes


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "half", "another shape", "objects"])
def test_a_damaged_file_of_drawings_is_one_clear_line(tmp_path, damage):
    draw_postcards(tmp_path, "train", 3, 16)
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    if damage == "another shape":
        np.save(path, np.zeros((2, 16, 16, 3), dtype=np.uint8))
    elif damage == "objects":
        np.save(path, np.array([{}]), allow_pickle=True)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    with pytest.raises(
        LdmError, match=r"train-3-16-0-\w+.npy is damaged \(.+\); delete it to have it drawn again"
    ):
        draw_postcards(tmp_path, "train", 3, 16)


@pytest.mark.usefixtures("in_this_process")
def test_another_split_count_size_seed_or_world_is_another_file(tmp_path):
    draw_postcards(tmp_path, "train", 2, 16)
    for options in (
        ("held_out", 2, 16),
        ("train", 1, 16),
        ("train", 2, 24),
        ("train", 2, 16, 5),
        ("train", 2, 16, 0, ("cat", "dog")),
        ("train", 2, 16, 0, ("cat", "lake")),
    ):
        fresh = draw_postcards(tmp_path / "fresh", *options)
        beside = draw_postcards(tmp_path, *options)
        assert (beside.pixels == fresh.pixels).all() and beside.scenes == fresh.scenes
    assert len(list(tmp_path.glob("*.npy"))) == 7
    draw_postcards(tmp_path, "train", 2, 16, 0, ("lake", "cat"))  # the same world, named in another order
    assert len(list(tmp_path.glob("*.npy"))) == 7


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("few", [(), ("cat", "boat", "lake")])
def test_what_counts_is_where_the_things_of_the_same_drawings_are(tmp_path, monkeypatch, few):
    world = {"subjects": few} if few else {}
    images = draw_postcards(tmp_path, "train", 6, 24, seed=9, **world)
    maps = draw_importance(tmp_path, images, 4, seed=9, **world)
    assert maps.shape == (6, 4, 4) and maps.dtype == np.float32
    for i in range(6):
        rng = np.random.default_rng([9, i])
        _, boxes = draw_with_boxes(sample_scene(rng, "train", **world), rng, 64)
        np.testing.assert_allclose(maps[i], importance(boxes, 4), rtol=1e-3)  # stored in float16
    assert maps.std() > 0.1
    monkeypatch.setattr(data, "ProcessPoolExecutor", None)  # not drawn again
    assert (draw_importance(tmp_path, images, 4, seed=9, **world) == maps).all()
    monkeypatch.setattr(data, "importance", lambda boxes, cells: np.zeros((cells, cells)))  # other code
    monkeypatch.setattr(data, "ProcessPoolExecutor", InThisProcess)
    assert (draw_importance(tmp_path, images, 4, seed=9, **world) == 0).all()


@pytest.mark.usefixtures("in_this_process")
def test_drawings_of_other_code_are_drawn_again(tmp_path, monkeypatch):
    first = draw_postcards(tmp_path, "train", 2, 16)
    monkeypatch.setattr(data, "drawing_code", lambda: "other")
    monkeypatch.setattr(data, "_draw", lambda index, size, **_: np.full((size, size, 3), 7))
    second = draw_postcards(tmp_path, "train", 2, 16)
    assert (second.pixels == 7).all() and not (first.pixels == 7).all() and first.identity != second.identity


@pytest.mark.usefixtures("in_this_process")
def test_no_scene_is_in_both_splits(tmp_path):
    for split, wanted in (("train", False), ("held_out", True)):
        images = draw_postcards(tmp_path, split, 40, 16)
        assert [held_out(scene) for scene in images.scenes] == [wanted] * 40
    with pytest.raises(LdmError, match="split 'test'"):
        draw_postcards(tmp_path, "test", 1, 16)


@pytest.mark.usefixtures("in_this_process")
def test_a_drawing_that_fails_leaves_no_file_and_the_next_try_succeeds(tmp_path, monkeypatch):
    def save_half(path, array):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data.np, "save", save_half)
        draw_postcards(tmp_path, "train", 2, 16)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(data, "_draw", lambda index, **_: 1 // (1 - index))
        draw_postcards(tmp_path, "train", 2, 16)
    assert list(tmp_path.iterdir()) == []
    assert len(draw_postcards(tmp_path, "train", 2, 16)) == 2


def test_a_batch_is_the_images_asked_for_from_minus_one_to_one(images):
    r"""Bytes 0, 51, 255 are -1, 51 / 127.5 - 1 = -0.6 and 1; colour comes first in a batch."""
    pixels = np.zeros((2, 2, 2, 3), dtype=np.uint8)
    pixels[1, 0, 1] = (0, 51, 255)
    batch = CaptionedImages(images(2).scenes, pixels).batch(np.array([1, 0, 1]))
    assert batch.shape == (3, 3, 2, 2) and batch.dtype == torch.float32
    torch.testing.assert_close(batch[0, :, 0, 1], torch.tensor([-1.0, -0.6, 1.0]))
    assert torch.equal(batch[0], batch[2]) and (batch[1] == -1).all()


def test_captions_are_those_of_the_scenes_and_new_at_every_step(images):
    eight, indices = images(8), np.array([3, 3, 5])
    captions = eight.captions(indices, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    assert captions == [caption(eight.scenes[i], rng) for i in indices]
    assert captions != eight.captions(indices, np.random.default_rng(2))
    rng = np.random.default_rng(1)
    full = [caption(eight.scenes[i], rng, partial=False, mistakes=False) for i in indices]
    assert full == eight.captions(indices, np.random.default_rng(1), partial=False)


def test_wrong_captions_are_those_of_scenes_and_images_with_captions_have_none(images):
    eight, indices = images(8), np.array([3, 0, 3])
    wrong = eight.wrong_captions(indices, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    assert wrong == [wrong_caption(eight.scenes[i], rng) for i in indices] and wrong[0] != wrong[2]
    captioned = CaptionedImages(["a dog"] * 8, eight.pixels)
    assert captioned.wrong_captions(indices, np.random.default_rng(1)) == []
