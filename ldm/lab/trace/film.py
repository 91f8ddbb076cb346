r"""A film strip of an image forming, to print, and the same as an animated GIF.

Both show x_t and the prediction of x0 made from it, decoded by the VAE. The first predictions are blurred, because they
are near the mean of all images that so noisy a latent could become; guidance exaggerates them, which explains their odd
colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ldm.diffusion.level import Time
from ldm.images.lettering import INK, PALE, PAPER, font, shortened
from ldm.lab.trace.recorder import Recording

NOISE, TRACK = "#c2562d", "#e9e4df"  # the bar below an image: noise, and the rest
MARGIN, GAP = 24, 8


@dataclass(frozen=True)
class Frame:
    """One recorded step of one image, decoded."""

    t: Time
    noise: float  # the variance of the noise in x_t, 1 - alpha_bar, in [0, 1]
    x_t: Image.Image
    x0: Image.Image


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` (two or more) of the indices 0 ... count - 1, including both ends: (9, 3) -> 0, 4, 8."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def decode_frames(recording: Recording, index: int, most: int = 30) -> list[Frame]:
    """At most `most` frames of image `index` of the batch: decoding is slow for a large VAE."""
    chosen = evenly_spaced(len(recording.steps), most)
    noisy, predicted = (recording.decode(which, index, chosen) for which in ("x_t", "x0"))
    steps = [recording.steps[i] for i in chosen]
    return [Frame(s.t, 1 - s.alpha_bar, a, b) for s, a, b in zip(steps, noisy, predicted, strict=True)]


def resize_to(image: Image.Image, side: int) -> Image.Image:
    """Resize so that the longer side has `side` pixels; images under a quarter of that keep their square pixels."""
    width, height = (max(1, round(x * side / max(image.size))) for x in image.size)
    enlarged = 4 * max(image.size) <= side
    return image.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def film_strip(title: str, frames: Sequence[Frame], finished: Image.Image, columns: int = 9) -> Image.Image:
    """One column for each of `columns` frames: x_t, the prediction of x0, t and the noise; then the finished image."""
    shown = [frames[i] for i in evenly_spaced(len(frames), columns)]
    width, height = resize_to(finished, 128).size
    left, top, gutter = MARGIN + 116, MARGIN + 44, 20
    bottom = top + 2 * height + GAP
    size = (left + (len(shown) + 1) * (width + GAP) + gutter - GAP + MARGIN, bottom + 52 + MARGIN)
    strip = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(strip)
    brush.text((MARGIN, MARGIN - 4), shortened(title, size[0] - 2 * MARGIN, font(20)), INK, font(20))

    labels = (("xₜ", "the noisy latent,\ndecoded"), ("x₀", "the finished latent,\npredicted from it"))
    for row, (name, text) in enumerate(labels):
        y = top + row * (height + GAP) + height // 2 - 30
        brush.text((MARGIN, y), name, INK, font(20))
        brush.multiline_text((MARGIN, y + 28), text, PALE, font(11), spacing=2)
    brush.text((MARGIN, bottom + 9), "t", INK, font(13))
    brush.text((MARGIN, bottom + 32), "share of noise", PALE, font(11))

    for column, frame in enumerate(shown):
        x = left + column * (width + GAP)
        strip.paste(resize_to(frame.x_t, 128), (x, top))
        strip.paste(resize_to(frame.x0, 128), (x, top + height + GAP))
        brush.text((x + width / 2, bottom + 16), f"{frame.t:.0f}", INK, font(13), anchor="mm")
        noise_bar(brush, (x, bottom + 34, width, 8), frame.noise)
    x = left + len(shown) * (width + GAP) + gutter
    y = top + (height + GAP) // 2
    strip.paste(resize_to(finished, 128), (x, y))
    brush.text((x + width / 2, y + height + 16), "finished", INK, font(13), anchor="mm")
    return strip


def noise_bar(brush: ImageDraw.ImageDraw, box: tuple[int, int, int, int], share: float) -> None:
    """Draw a bar at `box` (left, top, width, height), filled from the left to `share` in [0, 1]."""
    x, y, width, height = box
    brush.rectangle((x, y, x + width - 1, y + height - 1), TRACK)
    filled = round(share * width)
    if filled:
        brush.rectangle((x, y, x + filled - 1, y + height - 1), NOISE)


def gif_frames(frames: Sequence[Frame], finished: Image.Image, side: int = 192) -> list[Image.Image]:
    """The frames of the GIF: x_t beside the prediction of x0, with t and the noise; last, the finished image."""
    made = [_gif_frame(frame.x_t, frame.x0, f"t = {frame.t:.0f}", frame.noise, side) for frame in frames]
    return [*made, _gif_frame(finished, finished, "finished", 0.0, side)]


def _gif_frame(x_t: Image.Image, x0: Image.Image, time: str, noise: float, side: int) -> Image.Image:
    width, height = resize_to(x_t, side).size
    frame = Image.new("RGB", (2 * width + 3 * GAP, height + 2 * GAP + 44), PAPER)
    brush = ImageDraw.Draw(frame)
    y, right = height + 2 * GAP, frame.width - GAP
    for x, name, image in ((GAP, "xₜ, decoded", x_t), (width + 2 * GAP, "predicted x₀", x0)):
        frame.paste(resize_to(image, side), (x, GAP))
        brush.text((x, y + 6), name, PALE, font(12), anchor="lm")
    brush.text((GAP, y + 27), "noise", PALE, font(12), anchor="lm")
    noise_bar(brush, (GAP + 44, y + 24, right - GAP - 116, 8), noise)
    brush.text((right, y + 27), time, INK, font(12), anchor="rm")
    return frame
