r"""The pieces of the tour: with recorded images alone, and with the model that `make playground` has built."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.level import vp_level
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from tests.lab.playground.javascript import CAN_RUN, SOURCES, evaluate
from tests.lab.playground.test_painting import BUILT, LONG
from tests.lab.trace.chromium import PROGRAM, Chromium

ROOT = Path(__file__).resolve().parents[3]
WORDS = (SOURCES / "pieces" / "words.js").read_text("utf-8")
NAMES = ("noise", "tokens", "estimate", "guidance", "roundtrip")


@pytest.mark.skipif(not CAN_RUN, reason="neither node nor Chromium on this machine")
def test_an_image_is_noised_as_in_python(tmp_path):
    alpha_bar, (x0, eps) = make_alpha_bar(NoiseConfig()), torch.randn(2, 1, 48)
    data = {"alphaBar": alpha_bar.tolist(), "x0": x0[0].tolist(), "eps": eps[0].tolist()}
    code = "return [0, 300, 999].map((t) => addNoise(data.x0, data.eps, vpLevel(t, data.alphaBar)));"
    found = evaluate(["sampling", "pieces/piece", "pieces/noise"], code, data, tmp_path)
    for t, noised in zip((0, 300, 999), found, strict=True):
        np.testing.assert_allclose(noised, add_noise(x0, eps, alpha_bar[t])[0], rtol=0, atol=1e-6)


def test_the_pieces_say_the_same_things_in_both_languages():
    english, french = re.split(r"^fr: \{", WORDS, flags=re.MULTILINE)
    keys = [
        re.findall(r"(?:^  |, )(\w+): (\(.*?\) =>)?", half, flags=re.MULTILINE) for half in (english, french)
    ]
    assert keys[0] == keys[1] and len(keys[0]) > 20


# --- in a browser ------------------------------------------------------------------------------------------------


def page(settings: bool) -> str:
    r"""A page with every piece and a playground."""
    pieces = "".join(
        f'<div class="piece" data-piece="{name}" data-prompt="a dog with glasses"></div>' for name in NAMES
    )
    scripts = ["recorded.js", *(["settings.js"] if settings else []), "playground.js"]
    html = '<!doctype html><html lang="en"><meta charset="utf-8"><title>pieces</title><link rel="icon" href="data:,">'
    html += f'<link rel="stylesheet" href="playground.css"><body>{pieces}<div class="playground"></div>'
    return html + "".join(f'<script src="{name}"></script>' for name in scripts) + "</body></html>"


@pytest.fixture(scope="module")
def recorded():
    pytest.importorskip("sphinx", reason="the site's extension needs the `docs` extra")
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    from pieces import recorded

    return recorded("en")


@pytest.fixture
def chromium(tmp_path):
    browser = Chromium(tmp_path / "profile")
    browser.watch_workers()
    yield browser
    assert browser.errors == []
    assert not [url for url in browser.requests if not re.match("file:|blob:|data:", url)]
    browser.close()


def piece(name: str) -> str:
    return f"document.querySelector('[data-piece={name}]')"


INK = "[...{}.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL()).join()"


def changes(browser, name: str, script: str, seconds: float = 20) -> None:
    r"""Wait until a piece shows something else after a script."""
    before = browser.run(INK.format(piece(name)))
    browser.run(script)
    browser.wait_for(f"{INK.format(piece(name))} !== {json.dumps(before)}", seconds)


def slide(name: str, slider: str, value: object) -> str:
    return (
        f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('input')) }})"
        f"(document.getElementById('piece-{name}-{slider}'))"
    )


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
def test_without_the_model_every_piece_shows_something_recorded_and_says_so(chromium, recorded, tmp_path):
    from ldm.lab.playground.page import write_page

    write_page(tmp_path)
    (tmp_path / "recorded.js").write_text(
        f"window.PLAYGROUND = {{ pieces: {json.dumps(recorded)} }}", "utf-8"
    )
    (tmp_path / "page.html").write_text(page(settings=False), "utf-8")
    chromium.open(tmp_path / "page.html", 390, 800)
    for name in ("noise", "estimate", "guidance", "roundtrip"):
        chromium.wait_for(
            f"new Set([...{piece(name)}.querySelectorAll('canvas')].map(c => c.toDataURL())).size === 3"
        )
    for name in ("estimate", "guidance", "roundtrip"):
        assert "no model" in chromium.run(f"{piece(name)}.querySelector('.foot').textContent")
        assert chromium.run(f"{piece(name)}.querySelector('.use').offsetParent === null")
    changes(chromium, "noise", slide("noise", "t", 900))
    changes(chromium, "estimate", slide("estimate", "t", 250))
    changes(chromium, "guidance", slide("guidance", "g", 0))
    tokens = f"[...{piece('tokens')}.querySelectorAll('li b')].map(b => b.textContent)"
    assert chromium.run(tokens)[:5] == ["begin", "a", "dog", "with", "glasses"]
    chromium.run(slide("tokens", "prompt", "unbelievably"))
    said = chromium.run(tokens)
    assert "".join(said[1:-1]) == "unbelievably" and len(said) > 3
    chromium.run(f"{piece('roundtrip')}.querySelector('.board').focus()")
    before = chromium.run(INK.format(piece("roundtrip")))
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        chromium.press(key)
    assert chromium.run(INK.format(piece("roundtrip"))) != before
    assert chromium.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
@pytest.mark.skipif(not (BUILT / "settings.js").is_file(), reason="nothing is built: make playground")
def test_the_model_is_loaded_once_for_all_pieces_and_computes_what_python_does(chromium, recorded, tmp_path):
    from ldm.loading import load

    for file in BUILT.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "recorded.js").write_text(
        f"(window.PLAYGROUND ??= {{}}).pieces = {json.dumps(recorded)}", "utf-8"
    )
    (tmp_path / "page.html").write_text(page(settings=True), "utf-8")
    chromium.open(tmp_path / "page.html", 1000, 800)
    assert re.search(r"loads 3\d MB", chromium.run(f"{piece('estimate')}.querySelector('.use').textContent"))
    assert not [url for url in chromium.requests if "/file/" in url]
    chromium.run(f"{piece('roundtrip')}.querySelector('.use').click()")
    for name in ("roundtrip", "estimate", "guidance"):
        chromium.wait_for(f"{piece(name)}.querySelector('.foot').textContent.startsWith('Computed')", LONG)
    assert chromium.run("document.querySelector('.playground').dataset.phase") == "ready"
    loaded = [url for url in chromium.requests if "/file/" in url]
    assert len(loaded) == len(set(loaded))
    changes(chromium, "guidance", slide("guidance", "g", 0), LONG)
    model, latent = load("tiny", device="cpu"), torch.randn(1, *recorded["shape"])
    pixels = torch.rand(1, 3, 128, 128) * 2 - 1
    ask = "PLAYGROUND.model.ask({}).then((found) => [...found.{}])"
    question = f'"encode", {{ pixels: Float32Array.from({pixels.flatten().tolist()}) }}'
    x = f"Float32Array.from({latent.flatten().tolist()})"
    with torch.no_grad():
        expected = model.vae.encode(pixels)[0].flatten().numpy()
        found = np.array(chromium.run(ask.format(question, "latent")))
        assert 0 < np.abs(found - expected).mean() < 0.1  # weights of 8 bits
        level = vp_level(500, model.alpha_bar())
        expected = model.denoiser(model.encode_text(["a dog"]))(latent, level)[0].flatten().numpy()
        found = np.array(
            chromium.run(ask.format(f'"estimate", {{ x: {x}, t: 500, prompt: "a dog" }}', "cond"))
        )
        assert 0 < np.abs(found - expected).mean() < 0.1
