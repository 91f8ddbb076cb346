r"""Asking the page for an image: what `make playground` has built, its fields filled in, its button pressed."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.lab.trace.chromium import Chromium

BUILT = Path(__file__).resolve().parents[3] / "build" / "playground"
LONG = 240  # seconds that an image may take on a machine that is busy with other things


def paint(browser: Chromium, **fields: object) -> tuple[np.ndarray, Image.Image]:
    r"""Ask the open page for an image; returns its latent and the image. Fields that are not given stay as they are."""
    browser.run(
        f"""(() => {{
            const root = document.querySelector(".playground");
            window.painted = null;
            for (const [name, value] of Object.entries({json.dumps(fields)})) {{
                root.querySelector(`[id$=${{name}}]`).value = value;
            }}
            root.addEventListener("painted", (event) => {{ window.painted = event.detail; }}, {{ once: true }});
            root.querySelector(".go").click();
        }})()"""
    )
    said = "document.querySelector('.playground .status').textContent"
    browser.wait_for(f"window.painted || {said}.includes('failed')", LONG)
    assert browser.run("Boolean(window.painted)"), browser.run(said)
    latent = np.array(browser.run("[...window.painted.latent]"))
    png = browser.run("document.querySelector('.picture canvas').toDataURL()").partition(",")[2]
    return latent, Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
