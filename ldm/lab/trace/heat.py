r"""Attention heat maps: for each word, the finished image below that word's cross-attention map.

The maps are those of Tang et al. 2023 (see `ldm/lab/trace/recorder.py`).
"""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from ldm.images.lettering import INK, PALE, PAPER, font, shortened, wrapped
from ldm.lab.trace.film import GAP, MARGIN, resize_to
from ldm.lab.trace.recorder import Recording

NOTE = (
    "Bright: where pixels attended most to the word. The number: the word's share of all pixels' attention."
)


def normalized(heat: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The map rescaled so that its minimum is 0 and its maximum 1; all 0 if it is constant."""
    low, high = heat.min(), heat.max()
    return (heat - low) / (high - low) if high > low else torch.zeros_like(heat)


def overlay(image: Image.Image, heat: Float[Tensor, "h w"]) -> Image.Image:
    """The image in dark grey, glowing where the normalized map is high."""
    small = Image.fromarray(normalized(heat).numpy().astype(np.float32))
    glow = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)).clip(0, 1)
    # From 0.3: the darkest third of the colour map would hide the greys.
    colour = 255 * matplotlib.colormaps["inferno"](0.3 + 0.7 * glow)[..., :3]
    grey = 0.6 * np.asarray(image.convert("L"), dtype=float)[..., None]
    share = 0.85 * glow[..., None] ** 1.5  # the power keeps low weights dark
    return Image.fromarray(((1 - share) * grey + share * colour).round().astype(np.uint8))


def attention_sheet(
    recording: Recording, index: int, image: Image.Image, columns: int = 6, side: int = 160
) -> Image.Image:
    """The image, then an overlay for each word in the order of the prompt, with the word and its mean weight."""
    base = resize_to(image, side)
    cells = [(base, "the image", "")]
    for word in recording.words:
        heat = recording.heat_map(word, index)
        cells.append((overlay(base, heat), word.text, f"{100 * float(heat.mean()):.1f} %"))
    head, small = font(20), font(12)
    width, height = base.size
    pitch, columns = (width + GAP, height + 54), min(columns, len(cells))
    inner = max(columns * pitch[0] - GAP, 300)
    lines = wrapped(NOTE, inner, small)
    top = MARGIN + 34 + 16 * len(lines)
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (inner + 2 * MARGIN, top + rows * pitch[1]), PAPER)
    brush = ImageDraw.Draw(sheet)
    brush.text((MARGIN, MARGIN - 4), "Cross-attention to each word", INK, head)
    brush.multiline_text((MARGIN, MARGIN + 26), "\n".join(lines), PALE, small, spacing=2)
    for i, (cell, text, weight) in enumerate(cells):
        x, y = MARGIN + i % columns * pitch[0], top + i // columns * pitch[1]
        sheet.paste(cell, (x, y))
        label = shortened(text, width, font(15))
        brush.text((x + width / 2, y + height + 15), label, INK, font(15), anchor="mm")
        brush.text((x + width / 2, y + height + 33), weight, PALE, font(11), anchor="mm")
    return sheet
