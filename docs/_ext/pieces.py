r"""`{piece}`: a piece of the tour to play with, and what it shows as long as no model is loaded: recorded images.

The pieces are in `ldm/lab/playground/pieces/`, in the script of the playground, and share its model.
"""

import base64
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from annotated.languages import language
from annotated.playground import PLACE, built

NAMES = ("noise", "tokens", "estimate", "guidance", "roundtrip")
CARD = {"index": 5, "seed": 4, "size": 128}  # the image that is noised; docs/images/noising.png shows it, too
PROMPTS = {"en": "a dog with glasses", "fr": "un chien avec des lunettes"}
TIMES = (50, 150, 250, 350, 450, 550, 650, 750, 850, 950)
SCALES, TIME = (0, 1, 2, 4, 7.5, 12), 800  # of guidance, and the timestep at which it is shown
WITHOUT = {
    "en": "JavaScript, which is turned off here, would show something to play with.",
    "fr": "Ici, JavaScript est désactivé\N{NARROW NO-BREAK SPACE}; il montrerait une expérience à manipuler.",
}


class PieceDirective(SphinxDirective):
    """A piece by its name, with its argument (a prompt) after it."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        name, *prompt = self.arguments
        if name not in NAMES:
            raise self.error(f"piece {name!r}; expected one of {', '.join(NAMES)}")
        spoken = language(self.env.docname)
        root = "../" * self.env.docname.count("/") + PLACE
        metadata = self.env.metadata[self.env.docname]
        html = f'<div class="piece" data-piece="{name}" data-prompt="{" ".join(prompt)}"><p>{WITHOUT[spoken]}</p></div>'
        if "pieces" not in metadata:  # the first on the page
            metadata["pieces"] = "yes"
            self.env.app.languages_of_pieces.add(spoken)
            settings = ["settings.js"] if built(self.env.app) else []
            scripts = [f"pieces.{spoken}.js", *settings, "playground.js"]
            html = f'<link rel="stylesheet" href="{root}/playground.css">{html}'
            html += "".join(f'<script src="{root}/{script}"></script>' for script in scripts)
        return [nodes.raw("", html, format="html")]


def write_recorded(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    for spoken in sorted(app.languages_of_pieces):
        text = json.dumps(recorded(spoken), separators=(",", ":"))
        path = Path(app.outdir) / PLACE / f"pieces.{spoken}.js"
        path.write_text(f"(window.PLAYGROUND ??= {{}}).pieces = {text};\n", encoding="utf-8")


def recorded(spoken: str) -> dict[str, Any]:
    """What the pieces begin with: an image, its latent, and what the model that ships makes of it."""
    import torch

    from ldm.diffusion.level import vp_level
    from ldm.images.pixels import to_images, to_pixels
    from ldm.lab.playground.build import read_settings
    from ldm.loading import load
    from ldm.postcards import postcard

    model = load("tiny", device="cpu")
    settings, card = read_settings(model), postcard(**CARD, language=spoken)
    alpha_bar, prompt = model.alpha_bar(), PROMPTS[spoken]
    with torch.no_grad():
        latent = model.vae.encode(to_pixels([card.image]))[0]
        noise = torch.randn(latent.numel(), generator=torch.Generator().manual_seed(0)).reshape(latent.shape)
        texts = {text: model.encode_text([text]) for text in ("", card.caption, prompt)}

        def estimate(t: int, text: str, guidance: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
            level = vp_level(t, alpha_bar)
            x = level.mix(latent, noise)
            return x, model.denoiser(texts[text], texts[""], guidance, guidance_rescale=0.0)(x, level)[0]

        steps = [estimate(t, card.caption) for t in TIMES]
        guided = [estimate(TIME, prompt, float(guidance))[1] for guidance in SCALES]

        def images(latents: list[torch.Tensor]) -> dict[str, Any]:
            return packed(to_images(model.vae.decode(torch.cat(latents))))

        return {
            "card": packed([card.image])["image"],
            "latent": base64.b64encode(latent.float().numpy().tobytes()).decode(),
            "shape": settings["latent"],
            "alphaBar": [round(value, 7) for value in settings["alphaBar"]],
            "tokenizer": settings["tokenizer"],
            "estimate": {
                "t": TIMES, "prompt": card.caption,
                "x": images([x for x, _ in steps]), "x0": images([x0 for _, x0 in steps]),
            },
            "guidance": {"g": SCALES, "t": TIME, "prompt": prompt, "x0": images(guided)},
            "roundtrip": images([latent]),
        }  # fmt: skip


def packed(images: list[Any]) -> dict[str, Any]:
    """Images as one, as `readSprite` of the playground's `opening.js` takes them apart."""
    from ldm.lab.trace.page import COLUMNS, sprite

    size = images[0].size
    return {"image": sprite(images, size, 88), "count": len(images), "size": size, "columns": COLUMNS}


def setup(app: Sphinx) -> dict[str, bool]:
    app.languages_of_pieces = set()
    app.add_directive("piece", PieceDirective)
    app.connect("build-finished", write_recorded, priority=900)  # when the playground's files are there
    return {"parallel_read_safe": False, "parallel_write_safe": True}
