r"""The page paints in a real browser what Python paints: from a disk, and from a server.

It opens what `make playground` has built; `make test-docs` runs this after the site was built.
"""

import functools
import http.server
import re
import threading

import numpy as np
import pytest
import torch

from ldm.loading import load
from tests.lab.playground.painting import BUILT, LONG, paint
from tests.lab.trace.chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not (BUILT / "settings.js").is_file(), reason="nothing is built: make playground"),
]

OPTIONS = {"seed": 7, "steps": 8, "guidance": 4.0, "sampler": "dpmpp_2m"}
PROMPT = "a dog with glasses"


@pytest.fixture(scope="module")
def expected():
    r"""The latent, and the pixels, that Python makes of the same prompt."""
    model = load("tiny", dtype=torch.float32, device="cpu")
    latents = model.generate(PROMPT, output="latent", **OPTIONS)
    return latents.flatten().numpy(), np.asarray(model.decode(latents)[0], dtype=float)


@pytest.fixture
def chromium(tmp_path):
    browser = Chromium(tmp_path / "profile")
    browser.watch_workers()
    yield browser
    browser.close()


@pytest.fixture
def server():
    r"""The address of a server on this machine that isolates its pages, so that threads are allowed."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *args):
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=BUILT))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}/"
    serving.shutdown()


def test_from_a_disk_it_paints_what_python_paints_and_asks_nobody(chromium, expected):
    chromium.open(BUILT / "index.html", 1000, 900)
    said = chromium.run("document.querySelector('.go').textContent")
    [size] = re.findall(r"(\d+) MB", said)
    assert int(size) <= 40
    assert not [
        url for url in chromium.requests if "worker.js" in url or "/file/" in url
    ]  # nothing before it is asked for
    latent, image = paint(chromium, prompt=PROMPT, **OPTIONS)
    assert np.abs(np.asarray(image, dtype=float) - expected[1]).mean() <= 8
    assert 0 < np.abs(latent - expected[0]).mean() < 0.2  # 8 bits: near, but not the same
    assert chromium.errors == []
    assert not [url for url in chromium.requests if not re.match("file:|blob:|data:", url)]


def test_from_a_server_it_paints_the_same_image_as_python(chromium, server, expected):
    chromium.open(server, 1000, 900)
    [size] = re.findall(r"(\d+) MB", chromium.run("document.querySelector('.go').textContent"))
    assert int(size) <= 60
    latent, image = paint(chromium, prompt=PROMPT, **OPTIONS)
    assert np.abs(latent - expected[0]).max() < 2e-3
    assert np.abs(np.asarray(image, dtype=float) - expected[1]).max() <= 1.5
    assert chromium.errors == []
    assert not [url for url in chromium.requests if not url.startswith((server, "blob:", "data:"))]


def test_a_run_can_be_stopped_and_looked_at(chromium):
    chromium.open(BUILT / "index.html", 1000, 900)
    steps = "document.querySelector('.playground').playground.state.run?.steps.length"
    chromium.run("document.querySelector('[id$=steps]').value = 40; document.querySelector('.go').click()")
    chromium.wait_for(f"{steps} >= 2", LONG)
    chromium.run("document.querySelector('.go').click()")
    assert chromium.run("document.querySelector('.status').textContent") == "Stopped."
    taken = chromium.run(steps)
    assert 2 <= taken < 40
    chromium.click(".words button:nth-child(4)")
    assert chromium.run("document.querySelector('.caption').textContent").startswith(
        "Where “glasses” was read"
    )
    chromium.wait_for("getComputedStyle(document.querySelector('.heat')).opacity === '1'")
    assert chromium.run(steps) == taken  # what was still on its way is not heard
    assert chromium.errors == []
