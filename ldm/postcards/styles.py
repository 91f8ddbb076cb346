r"""Styles of drawing that a caption can name: a watercolour on paper, and a print in few flat colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFilter

_PAPER = (253, 250, 241)
_PRINT_INK = np.array((30, 32, 62), np.float32)
_TONES = 6  # steps of each channel in a print


def apply_style(image: Image.Image, style: str, factor: int, rng: np.random.Generator) -> Image.Image:
    r"""The drawing, rendered at `factor` times its size, in that style and at its size."""
    if style == "print":
        return _print(image, factor)
    small = image.reduce(factor)
    return _watercolour(small, rng) if style == "watercolour" else small


def _watercolour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    r"""Pale washes with blooms, soft edges, and a rough border of bare paper."""
    size = image.width
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(size / 260)), np.float32)
    wash = 0.06 + 0.30 * _noise(rng, 6, size)  # how much paper shines through
    inwards = np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)) / size
    edge = np.minimum(inwards[:, None], inwards[None, :]) + 0.035 * (_noise(rng, 14, size) - 0.5)
    wash = 1 - (1 - wash) * np.clip((edge - 0.035) / 0.02, 0, 1)
    mixed = pixels + (np.array(_PAPER, np.float32) - pixels) * wash[..., None]
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def _print(image: Image.Image, factor: int) -> Image.Image:
    r"""A woodblock print: few flat tones, and a dark contour where two of them meet."""
    flat = image.point([round(round(value / 255 * _TONES) * 255 / _TONES) for value in range(256)] * 3)
    shift = max(1, factor // 2)
    grey = image.convert("L").filter(ImageFilter.BoxBlur(1))
    contour = ImageChops.lighter(
        ImageChops.difference(grey, ImageChops.offset(grey, shift, 0)),
        ImageChops.difference(grey, ImageChops.offset(grey, 0, shift)),
    )
    line = np.clip((np.asarray(contour.reduce(factor), np.float32) - 7) / 10, 0, 1)[..., None]
    line[[0, -1]], line[:, [0, -1]] = 0, 0  # offset wraps around
    tones = np.asarray(flat.reduce(factor), np.float32)
    return Image.fromarray(np.rint(tones + (_PRINT_INK - tones) * line).astype(np.uint8))


def _noise(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    r"""Smooth noise in [0, 1]: `cells` x `cells` random values, enlarged."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
