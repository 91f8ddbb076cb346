r"""Sheets to look at: pictures with words beside them. A figure says how often, a sheet shows what."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ldm.images.lettering import INK, PAPER, font, wrapped

GAP = 6  # pixels between pictures


def titled_rows(titles: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    r"""Rows of pictures of one size, each under a line of text."""
    face = font(15)
    width, height = rows[0][0].size
    band = 26
    columns = max(len(row) for row in rows)
    size = (columns * (width + GAP) + GAP, len(rows) * (band + height) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(sheet)
    for r, (title, row) in enumerate(zip(titles, rows, strict=True)):
        top = r * (band + height)
        brush.text((GAP, top + 5), title, INK, face)
        for c, image in enumerate(row):
            sheet.paste(image, (GAP + c * (width + GAP), top + band))
    return sheet


def captioned(images: Sequence[Image.Image], captions: Sequence[str], columns: int = 6) -> Image.Image:
    r"""Pictures of one size, each over its caption, which is wrapped (and cut, should it need more than six lines)."""
    face, lines, leading = font(11), 6, 14
    width, height = images[0].size
    cell_width, cell_height = width + GAP, height + lines * leading + GAP
    sheet = Image.new(
        "RGB", (columns * cell_width + GAP, -(-len(images) // columns) * cell_height + GAP), PAPER
    )
    brush = ImageDraw.Draw(sheet)
    for i, (image, text) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + i % columns * cell_width, GAP + i // columns * cell_height
        sheet.paste(image, (x, y))
        for k, line in enumerate(wrapped(text, width, face)[:lines]):
            brush.text((x, y + height + 1 + k * leading), line, INK, face)
    return sheet


def similarity_grid(
    images: Sequence[Image.Image], captions: Sequence[str], cosines: np.ndarray, cell: int = 96
) -> Image.Image:
    r"""All pairs: pictures along the top, captions down the side, each cell the brighter the higher its cosine."""
    face, margin = font(13), 260
    sheet = Image.new("RGB", (margin + cell * len(images), cell * (len(captions) + 1)), PAPER)
    brush = ImageDraw.Draw(sheet)
    low, high = float(cosines.min()), float(cosines.max())
    for c, image in enumerate(images):
        sheet.paste(image.resize((cell - 2, cell - 2), Image.Resampling.BICUBIC), (margin + c * cell, 0))
    for r, text in enumerate(captions):
        top = (r + 1) * cell
        for k, line in enumerate(wrapped(text, margin - 16, face)):
            brush.text((8, top + 10 + 18 * k), line, INK, face)
        for c in range(len(images)):
            cosine = float(cosines[c, r])
            grey = round(255 * (cosine - low) / (high - low or 1))
            left = margin + c * cell
            brush.rectangle([left, top, left + cell - 3, top + cell - 3], (grey, grey, grey))
            brush.text((left + 28, top + 38), f"{cosine:.2f}", PAPER if grey < 128 else INK, face)
    return sheet
