r"""The film of a painting: a strip of moments to print, and a GIF that moves.

Both show x_t, decoded as it is, and the guess of x0 made from it. The U-Net's own guess is blurred at first, for it
is near the mean of all pictures that could hide under so much noise; guidance exaggerates it, hence the odd colours
of the first moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ldm.diffusion.level import Time
from ldm.images.lettering import INK, PALE, PAPER, font, shortened
from ldm.lab.trace.recorder import Recording

NOISE, TRACK = "#c2562d", "#e9e4df"  # the bar under a picture: its noise, and what is not noise
MARGIN, GAP = 24, 8


@dataclass(frozen=True)
class Frame:
    """One moment of one picture, decoded."""

    t: Time
    noise: float  # the variance of the noise in x_t, 1 - alpha_bar, in [0, 1]
    x_t: Image.Image
    x0: Image.Image


def spread(count: int, most: int) -> list[int]:
    """At most `most` (two or more) of the places 0 ... count - 1, evenly, both ends among them: (9, 3) -> 0, 4, 8."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def decode_frames(recording: Recording, picture: int, most: int = 30) -> list[Frame]:
    """The moments of one picture of the batch as frames, `most` of them at most: the VAE is slow where it is large."""
    chosen = spread(len(recording.moments), most)
    noisy, guesses = (recording.pictures("x_t", picture, chosen), recording.pictures("x0", picture, chosen))
    moments = [recording.moments[i] for i in chosen]
    return [Frame(m.t, 1 - m.alpha_bar, a, b) for m, a, b in zip(moments, noisy, guesses, strict=True)]


def fit(image: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side `side` pixels: enlarged in whole blocks if it is much smaller, else smoothly."""
    width, height = (max(1, round(x * side / max(image.size))) for x in image.size)
    blocks = 4 * max(image.size) <= side
    return image.resize((width, height), Image.Resampling.NEAREST if blocks else Image.Resampling.LANCZOS)


def film_strip(title: str, frames: Sequence[Frame], finished: Image.Image, columns: int = 9) -> Image.Image:
    """A column for each of some moments: x_t over the guess of x0 over t and the noise; last, the finished picture."""
    shown = [frames[i] for i in spread(len(frames), columns)]
    width, height = fit(finished, 128).size
    left, top, gutter = MARGIN + 116, MARGIN + 44, 20
    bottom = top + 2 * height + GAP
    size = (left + (len(shown) + 1) * (width + GAP) + gutter - GAP + MARGIN, bottom + 52 + MARGIN)
    strip = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(strip)
    brush.text((MARGIN, MARGIN - 4), shortened(title, size[0] - 2 * MARGIN, font(20)), INK, font(20))

    for row, (name, *lines) in enumerate(
        (("xₜ", "the noisy latent,", "decoded"), ("x₀", "the finished latent,", "guessed from there"))
    ):
        y = top + row * (height + GAP) + height // 2 - 30
        brush.text((MARGIN, y), name, INK, font(20))
        for k, line in enumerate(lines):
            brush.text((MARGIN, y + 28 + 15 * k), line, PALE, font(11))
    brush.text((MARGIN, bottom + 9), "t", INK, font(13))
    brush.text((MARGIN, bottom + 32), "share of noise", PALE, font(11))

    for column, frame in enumerate(shown):
        x = left + column * (width + GAP)
        strip.paste(fit(frame.x_t, 128), (x, top))
        strip.paste(fit(frame.x0, 128), (x, top + height + GAP))
        brush.text((x + width / 2, bottom + 16), f"{frame.t:.0f}", INK, font(13), anchor="mm")
        noise_bar(brush, (x, bottom + 34, width, 8), frame.noise)
    x = left + len(shown) * (width + GAP) + gutter
    y = top + (height + GAP) // 2
    strip.paste(fit(finished, 128), (x, y))
    brush.text((x + width / 2, y + height + 16), "finished", INK, font(13), anchor="mm")
    return strip


def noise_bar(brush: ImageDraw.ImageDraw, box: tuple[int, int, int, int], share: float) -> None:
    """A bar at `box` (left, top, width, height), filled from the left to a share in [0, 1]."""
    x, y, width, height = box
    brush.rectangle((x, y, x + width - 1, y + height - 1), TRACK)
    filled = round(share * width)
    if filled:
        brush.rectangle((x, y, x + filled - 1, y + height - 1), NOISE)


def film_scenes(frames: Sequence[Frame], finished: Image.Image, side: int = 192) -> list[Image.Image]:
    """The pictures of the GIF: x_t beside the guess of x0, under them t and the noise; last, the finished picture."""
    scenes = [_scene(frame.x_t, frame.x0, f"t = {frame.t:.0f}", frame.noise, side) for frame in frames]
    return [*scenes, _scene(finished, finished, "finished", 0.0, side)]


def _scene(x_t: Image.Image, x0: Image.Image, time: str, noise: float, side: int) -> Image.Image:
    width, height = fit(x_t, side).size
    scene = Image.new("RGB", (2 * width + 3 * GAP, height + 2 * GAP + 44), PAPER)
    brush = ImageDraw.Draw(scene)
    y, right = height + 2 * GAP, scene.width - GAP
    for x, name, image in ((GAP, "xₜ, decoded", x_t), (width + 2 * GAP, "guess of x₀", x0)):
        scene.paste(fit(image, side), (x, GAP))
        brush.text((x, y + 6), name, PALE, font(12), anchor="lm")
    brush.text((GAP, y + 27), "noise", PALE, font(12), anchor="lm")
    noise_bar(brush, (GAP + 44, y + 24, right - GAP - 116, 8), noise)
    brush.text((right, y + 27), time, INK, font(12), anchor="rm")
    return scene
