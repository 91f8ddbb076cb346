r"""The latent, channel by channel: the numbers that diffusion works on and the VAE decodes."""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from ldm.images.lettering import INK, PALE, PAPER, font
from ldm.lab.trace.film import GAP, MARGIN, evenly_spaced, resize_to
from ldm.lab.trace.recorder import Recording

REACH = 3.0  # the colour map spans -3 to 3; a latent is scaled to a standard deviation of about 1


def channel_image(channel: Float[Tensor, "h w"]) -> Image.Image:
    """One channel in colours: blue below zero, white at zero, red above; saturated at -REACH and REACH."""
    unit = (channel.numpy() / (2 * REACH) + 0.5).clip(0, 1)
    return Image.fromarray((255 * matplotlib.colormaps["RdBu_r"](unit)[..., :3]).round().astype(np.uint8))


def latent_sheet(
    recording: Recording, index: int, image: Image.Image, columns: int = 7, side: int = 128
) -> Image.Image:
    """A row for each channel, a column for each of some steps and the finished latent; then the decoded image."""
    latents = [(f"t = {step.t:.0f}", step.x_t[index]) for step in recording.steps]
    latents.append(("finished", recording.steps[-1].x_prev[index]))
    shown = [latents[i] for i in evenly_spaced(len(latents), columns)]
    cell = resize_to(channel_image(shown[0][1][0]), side)
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
            sheet.paste(resize_to(channel_image(channel), side), (x, top + row * (height + GAP)))
    for row in range(rows):
        y = top + row * (height + GAP) + height / 2
        brush.text((MARGIN, y), f"channel {row}", INK, font(13), anchor="lm")
    x = left + len(shown) * (width + GAP) + gutter - GAP
    brush.text((x + width / 2, top - 14), "decoded", INK, font(13), anchor="mm")
    sheet.paste(resize_to(image, side), (x, top))
    y = top + height + 40
    sheet.paste(channel_image(torch.linspace(-REACH, REACH, width).expand(10, -1)), (x, y))  # the colour bar
    for place, text, anchor in ((0.0, f"−{REACH:.0f}", "la"), (0.5, "0", "ma"), (1.0, f"+{REACH:.0f}", "ra")):
        brush.text((x + place * width, y + 14), text, PALE, font(11), anchor=anchor)
    return sheet
