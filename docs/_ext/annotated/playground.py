r"""The playground on a page: its place, its scripts, and a recorded run for as long as no model is loaded.

What `make playground` has built is copied into the site. Without it there is the recorded run only, and it says so.
"""

import base64
import json
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from annotated.languages import language

PROMPTS = {"en": "a dog with glasses", "fr": "un chien avec des lunettes"}
SEED, QUALITY = 42, 82
PLACE = "_static/playground"


class Playground(SphinxDirective):
    """The playground, in the page's language."""

    def run(self) -> list[nodes.Node]:
        spoken = language(self.env.docname)
        self.env.app.played_languages.add(spoken)
        root = "../" * self.env.docname.count("/") + PLACE
        settings = ["settings.js"] if built(self.env.app) else []
        scripts = [f"recorded.{spoken}.js", *settings, "playground.js"]
        html = f'<link rel="stylesheet" href="{root}/playground.css">'
        html += f'<div class="playground" data-prompt="{PROMPTS[spoken]}"></div>'
        html += "".join(f'<script src="{root}/{name}"></script>' for name in scripts)
        return [nodes.raw("", html, format="html")]


def built(app: Sphinx) -> Path | None:
    """The folder that `make playground` writes, if it is there."""
    folder = Path(app.srcdir) / "build" / "playground"
    return folder if (folder / "settings.js").is_file() else None


def copy_files(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html" or not app.played_languages:
        return
    from ldm.lab.playground.page import write_page

    target = Path(app.outdir) / PLACE
    shutil.rmtree(target, ignore_errors=True)
    folder = built(app)
    if folder:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("index.html"))
    target.mkdir(exist_ok=True)
    write_page(target)
    for spoken in sorted(app.played_languages):
        run = json.dumps(recorded_run(PROMPTS[spoken]), separators=(",", ":"))
        script = f"(window.PLAYGROUND ??= {{}}).recorded = {run};\n"
        (target / f"recorded.{spoken}.js").write_text(script, encoding="utf-8")


def recorded_run(prompt: str) -> dict[str, object]:
    """A run of the model that ships, as playground.js shows it: sprites of its frames, and the maps of its words."""
    import numpy as np
    import torch

    from ldm.lab.trace.page import COLUMNS, sprite
    from ldm.lab.trace.recorder import record
    from ldm.loading import load

    model = load("tiny", device="cpu")
    with record(model, prompt) as recording:
        model.generate(prompt, seed=SEED, progress=recording.watch())
    frames = {which: recording.decode(which) for which in ("x0", "x_t")}
    words = [
        [step.attention[0, list(word.positions)].sum(0) for word in recording.words]
        for step in recording.steps
    ]
    maps = torch.stack([torch.stack(step) for step in words])  # [steps, words, h, w]
    height, width = maps.shape[-2:]
    grey = (maps / maps.amax((0, 2, 3), keepdim=True) * 255).round().to(torch.uint8)
    defaults, size = model.config.defaults, frames["x0"][0].size
    return {
        "options": {
            "prompt": prompt, "seed": SEED, "steps": defaults.steps,
            "guidance": defaults.guidance, "sampler": defaults.sampler,
        },
        "words": [word.text for word in recording.words],
        "t": [step.t for step in recording.steps],
        "size": size,
        "columns": COLUMNS,
        "x0": sprite(frames["x0"], size, QUALITY),
        "x": sprite(frames["x_t"], size, QUALITY),
        "maps": {"height": height, "width": width, "base64": base64.b64encode(np.asarray(grey)).decode()},
    }  # fmt: skip


def setup(app: Sphinx) -> None:
    app.played_languages = set()
    app.add_directive("playground", Playground)
    app.connect("build-finished", copy_files)
