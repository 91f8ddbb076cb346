r"""The latent itself, channel by channel: what the VAE decodes, and all that diffusion ever sees."""

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from ldm.images.lettering import INK, PALE, PAPER, font
from ldm.lab.trace.film import GAP, MARGIN, fit, spread
from ldm.lab.trace.recorder import Recording

REACH = 3.0  # the colours span -3 to 3 standard deviations; a latent is scaled to have a deviation of about 1


def channel_picture(channel: Float[Tensor, "h w"]) -> Image.Image:
    """One channel in colours: blue below zero, white at zero, red above; full at -REACH and REACH."""
    unit = (channel.numpy() / (2 * REACH) + 0.5).clip(0, 1)
    return Image.fromarray((255 * matplotlib.colormaps["RdBu_r"](unit)[..., :3]).round().astype(np.uint8))


def latent_sheet(
    recording: Recording, picture: int, image: Image.Image, columns: int = 7, side: int = 128
) -> Image.Image:
    """A row for each channel, a column for each of some moments, the finished latent last; then the picture of it."""
    latents = [(f"t = {m.t:.0f}", m.x_t[picture]) for m in recording.moments]
    latents.append(("finished", recording.moments[-1].x_prev[picture]))
    shown = [latents[i] for i in spread(len(latents), columns)]
    cell = fit(channel_picture(shown[0][1][0]), side)
    width, height = cell.size
    left, top, gutter = MARGIN + 84, MARGIN + 60, 28
    rows = shown[0][1].shape[0]
    size = (left + len(shown) * (width + GAP) + gutter + width + MARGIN, top + rows * (height + GAP) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(sheet)
    brush.text((MARGIN, MARGIN - 4), "The latent, channel by channel", INK, font(20))
    for column, (name, latent) in enumerate(shown):
        x = left + column * (width + GAP)
        brush.text((x + width / 2, top - 14), name, INK, font(13), anchor="mm")
        for row, channel in enumerate(latent):
            sheet.paste(fit(channel_picture(channel), side), (x, top + row * (height + GAP)))
    for row in range(rows):
        y = top + row * (height + GAP) + height / 2
        brush.text((MARGIN, y), f"channel {row}", INK, font(13), anchor="lm")
    x = left + len(shown) * (width + GAP) + gutter - GAP
    brush.text((x + width / 2, top - 14), "decoded", INK, font(13), anchor="mm")
    sheet.paste(fit(image, side), (x, top))
    _scale(sheet, brush, (x, top + height + 40, width))
    return sheet


def _scale(sheet: Image.Image, brush: ImageDraw.ImageDraw, box: tuple[int, int, int]) -> None:
    x, y, width = box
    ramp = np.linspace(0, 1, width)[None].repeat(10, axis=0)
    sheet.paste(
        Image.fromarray((255 * matplotlib.colormaps["RdBu_r"](ramp)[..., :3]).astype(np.uint8)), (x, y)
    )
    for place, text, anchor in ((0.0, f"−{REACH:.0f}", "la"), (0.5, "0", "ma"), (1.0, f"+{REACH:.0f}", "ra")):
        brush.text((x + place * width, y + 14), text, PALE, font(11), anchor=anchor)
