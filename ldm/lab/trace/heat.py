r"""Where each word looked: one small picture a word, the finished painting under that word's cross-attention.

Source of the maps: Tang et al. 2023 (see `ldm/lab/trace/recorder.py`).
"""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from ldm.images.lettering import INK, PALE, PAPER, font, shortened, wrapped
from ldm.lab.trace.film import GAP, MARGIN, fit
from ldm.lab.trace.recorder import Recording


def stretch(heat: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The map from its own lowest value, 0, to its own highest, 1. A flat map has nothing to show: all 0."""
    low, high = heat.min(), heat.max()
    return (heat - low) / (high - low) if high > low else torch.zeros_like(heat)


def overlay(image: Image.Image, heat: Float[Tensor, "h w"]) -> Image.Image:
    """The picture in dark greys, glowing where the stretched map is high."""
    small = Image.fromarray(stretch(heat).numpy().astype(np.float32))
    glow = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colour = (
        255 * matplotlib.colormaps["inferno"](0.3 + 0.7 * glow)[..., :3]
    )  # its darkest third would hide the greys
    grey = 0.6 * np.asarray(image.convert("L"), dtype=float)[..., None]
    share = 0.85 * glow[..., None] ** 1.5  # the power leaves the low weights dark
    return Image.fromarray(((1 - share) * grey + share * colour).round().astype(np.uint8))


def attention_sheet(
    recording: Recording, picture: int, image: Image.Image, columns: int = 6, side: int = 160
) -> Image.Image:
    """The picture, then one overlay a word in the prompt's order, each over its word and its mean weight."""
    base = fit(image, side)
    cells = [(base, "the picture", "")]
    for word in recording.words:
        heat = recording.heat_map(word, picture)
        cells.append((overlay(base, heat), word.text, f"{100 * float(heat.mean()):.1f} %"))
    note = (
        "Bright: where pixels took most from the word. The number: the word's share in what all pixels read."
    )
    head, small = font(20), font(12)
    width, height = base.size
    pitch, columns = (width + GAP, height + 54), min(columns, len(cells))
    inner = max(columns * pitch[0] - GAP, 300)
    lines = wrapped(note, inner, small)
    top = MARGIN + 34 + 16 * len(lines)
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (inner + 2 * MARGIN, top + rows * pitch[1]), PAPER)
    brush = ImageDraw.Draw(sheet)
    brush.text((MARGIN, MARGIN - 4), "Where each word was read", INK, head)
    brush.multiline_text((MARGIN, MARGIN + 26), "\n".join(lines), PALE, small, spacing=2)
    for i, (cell, text, weight) in enumerate(cells):
        x, y = MARGIN + i % columns * pitch[0], top + i // columns * pitch[1]
        sheet.paste(cell, (x, y))
        brush.text(
            (x + width / 2, y + height + 15), shortened(text, width, font(15)), INK, font(15), anchor="mm"
        )
        brush.text((x + width / 2, y + height + 33), weight, PALE, font(11), anchor="mm")
    return sheet
