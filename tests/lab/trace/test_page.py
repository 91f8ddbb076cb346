r"""The file that `ldm explore` writes: small, whole, and with nothing in it that reaches out."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.errors import LdmError
from ldm.lab.trace.page import LIMIT, PageRun, fill_template, make_page, maps_data, run_data, sprite
from ldm.loading import load
from tests.small import write_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_small_model(tmp_path_factory.mktemp("model")), device="cpu")


def picture(seed, size=(24, 16)):
    noise = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def page_run(frames=3, size=(24, 16), prompt="red dog", guidance=2.0):
    r"""Frames of pure noise: the worst that a picture format can be given."""
    maps = torch.rand(frames - 1, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    steps = [(900 - 100 * i, 0.1 + 0.1 * i) for i in range(frames - 1)]
    pictures = [picture(i, size) for i in range(frames)]
    words = ["‹start›", "red", "dog", "‹end›"]
    return PageRun(prompt, 1, guidance, words, list(range(frames)), pictures, pictures, maps, None, steps)


def data_of(page):
    [found] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found)


def opened(address):
    head, _, code = address.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB")


def test_the_page_asks_nobody_for_anything(model):
    page = make_page(model, [page_run(), page_run()], seeds=1)
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"[a-z]+://[^\s\"'`<>]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG, not a place
    assert not re.search(r"\b(src|href)=[\"'](?!#|data:)", page) and "@import" not in page
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "sendBeacon"):
        assert word not in page


def test_no_placeholder_is_left_and_none_in_a_prompt_is_filled(model):
    page = make_page(model, [page_run(prompt="/*STYLE*/ /*SCRIPT*/ /*DATA*/"), page_run()], seeds=1)
    assert data_of(page)["runs"][0]["prompt"] == "/*STYLE*/ /*SCRIPT*/ /*DATA*/"
    assert page.count("/*STYLE*/") == page.count("/*DATA*/") == 1


@pytest.mark.parametrize(
    "prompt",
    ["</script><script>alert(1)</script>", "<!-- <script>", "\"\\'", "🐶 é \u2028\u2029", "\ud800 \x00 \x1b"],
)
def test_any_prompt_comes_back_from_the_page_and_leaves_its_structure_alone(prompt):
    plain, page = fill_template({"prompt": ""}), fill_template({"prompt": prompt})
    assert data_of(page) == {"prompt": prompt}
    assert page.count("<") == plain.count("<")
    assert page.encode()  # no half of a pair is left


def test_a_very_long_prompt_is_cut():
    page_of = {}
    for length in (10, 100_000):
        run = run_data(replace(page_run(), prompt="x" * length, words=["y" * length]), (24, 16), 80)
        page_of[length] = run
    assert page_of[10]["prompt"] == "x" * 10 and page_of[10]["words"] == ["y" * 10]
    assert page_of[100_000]["prompt"] == "x" * 599 + "…" and len(page_of[100_000]["words"][0]) == 30


def test_frame_k_of_a_sprite_stands_in_row_k_over_8():
    colours = [(10 * i, 255 - 10 * i, 128) for i in range(11)]
    sheet = opened(sprite([Image.new("RGB", (64, 32), colour) for colour in colours], (32, 16), 80))
    assert sheet.size == (8 * 32, 2 * 16)
    for i, colour in enumerate(colours):
        middle = sheet.getpixel((i % 8 * 32 + 16, i // 8 * 16 + 8))
        assert max(abs(a - b) for a, b in zip(middle, colour)) < 8


def test_maps_are_read_back_from_their_picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 16), indexing="ij")
    maps = torch.stack(
        [torch.stack([0.1 + 0.2 * x * y, 0.5 - 0.4 * x]), torch.stack([0.3 * y, 0.1 + 0.2 * x])]
    )
    data = maps_data(maps)
    grey = np.asarray(opened(data["image"]))[..., 0] / 255
    for moment in range(2):
        for word in range(2):
            tile = grey[16 * moment : 16 * moment + 16, 16 * word : 16 * word + 16]
            back = data["low"][word] + tile * (data["high"][word] - data["low"][word])
            assert np.abs(back - maps[moment, word].numpy()).max() < 0.02


@pytest.mark.long
def test_too_many_pictures_are_made_rougher_until_the_page_is_small_enough(model):
    few = data_of(make_page(model, [page_run(size=(128, 128))] * 2, seeds=1))
    assert few["thumb"] == [128, 128]
    page = make_page(model, [page_run(41, (128, 128))] * 4, seeds=3)
    assert len(page.encode()) <= LIMIT < 2_000_000
    assert len(data_of(page)["runs"]) == 4


def test_large_pictures_keep_their_shape(model):
    data = data_of(make_page(model, [page_run(size=(512, 384))] * 2, seeds=1))
    assert data["size"] == [512, 384] and data["thumb"] == [256, 192]


def test_a_page_that_cannot_be_made_small_enough_says_so(model, monkeypatch):
    monkeypatch.setattr("ldm.lab.trace.page.LIMIT", 10_000)
    with pytest.raises(LdmError, match="2 runs make a page of .* fewer guidances or seeds"):
        make_page(model, [page_run()] * 2, seeds=1)
