r"""Beside other threads: what each of them gets is what it would get alone."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.backend import allocator
from ldm.backend.matmul import onednn_matmul
from ldm.backend.threads import SharedSetting
from ldm.diffusion.finite import first_bad_module
from ldm.images.reading import read_picture
from ldm.lab.trace.recorder import record
from ldm.nn.hooks import add_hook
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER

LARGE = {"size": (160, 16), "steps": 1, "seed": 3}  # 80 latents wide: two tiles


@pytest.fixture
def model(randomise):
    return randomise(LatentDiffusion(CONFIG, TOKENIZER)).float()


def elsewhere(work):
    r"""What `work()` gives in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)


def array(images):
    return np.stack([np.asarray(image) for image in images])


def once(module, work):
    r"""Have `work()` done in another thread, once, when `module` is next run; returns where its result will be."""
    results = []

    def hook(*_):
        handle.remove()
        results.append(elsewhere(work))

    handle = module.register_forward_pre_hook(hook)
    return results


def overlap(first, second):
    r"""Enter `first` here and `second` in another thread; leave the first, then the second."""
    inside, leave = threading.Event(), threading.Event()

    def other():
        with second:
            inside.set()
            assert leave.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with first:
            done = pool.submit(other)
            assert inside.wait(60)
        yield
        leave.set()
        done.result(timeout=60)


def test_a_hook_answers_to_the_thread_that_added_it():
    layer, heard = torch.nn.Identity(), []
    handles = [
        add_hook(layer, lambda *_: heard.append("after")),
        add_hook(layer, lambda *_: heard.append("before"), before=True),
    ]
    elsewhere(lambda: layer(torch.zeros(1)))
    assert heard == []
    layer(torch.zeros(1))
    assert heard == ["before", "after"]
    for handle in handles:
        handle.remove()


def test_a_change_lasts_until_the_last_thread_has_left():
    told = []
    changed = SharedSetting(lambda: told.append("made") or (lambda: told.append("undone")))
    for _ in overlap(changed(), changed()):
        assert told == ["made"]
    assert told == ["made", "undone"]
    with pytest.raises(KeyError), changed():
        raise KeyError
    assert told == ["made", "undone"] * 2


def test_the_setting_of_products_is_as_before_when_two_threads_have_changed_it():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "none"
    try:
        for _ in overlap(onednn_matmul(), onednn_matmul()):
            assert setting.fp32_precision == "bf16"
        assert setting.fp32_precision == "none"
    finally:
        setting.fp32_precision = before


def test_large_blocks_are_apart_until_the_last_thread_has_decoded(monkeypatch):
    told = []
    monkeypatch.setattr(allocator, "_kept", True)
    monkeypatch.setattr(allocator, "_of_glibc", lambda name: lambda *numbers: told.append(numbers) or 1)
    kept = (allocator.M_MMAP_MAX, 0)
    for _ in overlap(allocator.mmap_large_blocks(), allocator.mmap_large_blocks()):
        assert kept not in told
    assert told[-1] == kept


@pytest.mark.parametrize("tile", [False, True])
def test_a_picture_painted_while_another_is_decoded_in_tiles_is_the_picture_alone(model, tile):
    def paint(prompt, tile):
        return array(model.generate(prompt, tile=tile, **LARGE))

    alone, other_alone = paint("red dog", True), paint("dog", tile)
    met = []
    for module in (model.vae.decoder.norm_out, model.vae.decoder.conv_out):
        results = once(module, lambda: paint("dog", tile))
        assert (paint("red dog", True) == alone).all()
        met += results
    assert len(met) == 2 and all((other == other_alone).all() for other in met)


def test_a_picture_painted_while_another_is_recorded_is_the_picture_alone_and_not_in_the_recording(model):
    def paint(prompt, **more):
        return array(model.generate(prompt, seed=3, steps=3, size=(48, 32), **more))

    def recorded():
        with record(model, "red dog") as recording:
            image = paint("red dog", progress=recording.watch())
        return image, [step.attention for step in recording.steps]

    (image, maps), other_alone = recorded(), paint("dog")
    results = once(model.unet.mid, lambda: paint("dog"))
    again, maps_again = recorded()
    assert (results[0] == other_alone).all() and (again == image).all()
    assert len(maps) == 3 and all(map(torch.equal, maps, maps_again))

    results = once(model.unet.mid, recorded)  # two recordings at once
    again, maps_again = recorded()
    assert (again == image).all() and (results[0][0] == image).all()
    assert all(map(torch.equal, maps, maps_again)) and all(map(torch.equal, maps, results[0][1]))


def test_threads_at_once_paint_what_each_would_alone(model):
    def plain():
        return array(model.generate("red dog", seed=1, steps=2))

    def tiled():
        return array(model.generate("dog", tile=True, **LARGE))

    def recorded():
        with record(model, "red") as recording:
            return array(model.generate("red", seed=2, steps=2, progress=recording.watch()))

    jobs = [plain, tiled, recorded] * 4
    alone = [job() for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = [done.result(timeout=120) for done in [pool.submit(job) for job in jobs]]
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_another_threads_nan_is_not_blamed_on_this_one(model):
    layer = torch.nn.Linear(1, 1)
    nan = torch.tensor([[float("nan")]])
    assert first_bad_module(layer, lambda: layer(nan)) == ""
    assert first_bad_module(layer, lambda: elsewhere(lambda: layer(nan))) is None


def test_reading_pictures_in_many_threads_leaves_pythons_warnings_as_they_were(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read_picture(tmp_path / "red.png"), range(64)))
    assert warnings.filters == before
