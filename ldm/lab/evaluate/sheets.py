r"""Sheets: images with text beside them. A metric says how often, a sheet shows what."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from ldm.images.lettering import INK, PAPER, font, wrapped
from ldm.postcards import grid

GAP = 6  # pixels between images


def paired_rows(above: Sequence[Image.Image], below: Sequence[Image.Image], columns: int = 8) -> Image.Image:
    r"""Pairs of images, one above the other, `columns` pairs per row."""
    rows: list[Image.Image] = []
    for i in range(0, len(above), columns):
        for row in (above[i : i + columns], below[i : i + columns]):
            rows += [*row, *[Image.new("RGB", row[0].size, "white")] * (columns - len(row))]
    return grid(rows, columns)


def titled_rows(titles: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    r"""Rows of images of one size, each below its title."""
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
    r"""Images of one size, each above its caption, which is wrapped to at most six lines."""
    face, lines, leading = font(11), 6, 14
    width, height = images[0].size
    cell_width, cell_height = width + GAP, height + lines * leading + GAP
    size = (columns * cell_width + GAP, -(-len(images) // columns) * cell_height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(sheet)
    for i, (image, text) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + i % columns * cell_width, GAP + i // columns * cell_height
        sheet.paste(image, (x, y))
        for k, line in enumerate(wrapped(text, width, face)[:lines]):
            brush.text((x, y + height + 1 + k * leading), line, INK, face)
    return sheet
