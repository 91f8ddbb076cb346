r"""Pictures for the notebooks: strips, grids, heat maps, curves. Each function returns a PIL image to display.

Nothing of latent diffusion is in here, only layout; everything that is explained comes from `ldm`.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ldm.images.lettering import INK, PALE, PAPER, font, shortened, wrapped
from ldm.lab.trace.film import resize_to
from ldm.lab.trace.latents import channel_image

ROOT = Path(__file__).resolve().parents[1]
GAP, LETTERS = 6, 12  # pixels between pictures; the size of what is written


def film(
    pictures: Sequence[Image.Image], captions: Sequence[str] = (), side: int = 112, columns: int = 8
) -> Image.Image:
    """Pictures in a row (in rows of `columns`, where there are more), a caption of at most three lines under each."""
    face = font(LETTERS)
    lines = [wrapped(text, side, face)[:3] for text in captions] or [[]] * len(pictures)
    under = (LETTERS + 4) * max(map(len, lines)) + (4 if captions else 0)
    cells = [resize_to(picture.convert("RGB"), side) for picture in pictures]
    width, height = max(c.width for c in cells) + GAP, max(c.height for c in cells) + GAP + under
    columns = min(columns, len(cells))
    sheet = Image.new("RGB", (columns * width + GAP, -(-len(cells) // columns) * height + GAP), PAPER)
    brush = ImageDraw.Draw(sheet)
    for i, (cell, text) in enumerate(zip(cells, lines, strict=True)):
        x, y = GAP + i % columns * width, GAP + i // columns * height
        sheet.paste(cell, (x, y))
        for k, line in enumerate(text):
            place = (x + (width - GAP) / 2, y + cell.height + 4 + (LETTERS + 4) * k)
            brush.text(place, shortened(line, width, face), INK, face, anchor="ma")
    return sheet


def grid(
    rows: Sequence[Sequence[Image.Image]],
    left: Sequence[str] = (),
    top: Sequence[str] = (),
    side: int = 96,
) -> Image.Image:
    """Rows of pictures, with a heading for each row on the left and for each column above."""
    face = font(LETTERS)
    cells = [[resize_to(picture.convert("RGB"), side) for picture in row] for row in rows]
    width, height = cells[0][0].width + GAP, cells[0][0].height + GAP
    beside = math.ceil(min(150, max((face.getlength(text) for text in left), default=-GAP))) + 2 * GAP
    above = LETTERS + 8 if top else GAP
    size = (beside + max(map(len, cells)) * width, above + len(cells) * height)
    sheet = Image.new("RGB", size, PAPER)
    brush = ImageDraw.Draw(sheet)
    for j, text in enumerate(top):
        x = beside + j * width + (width - GAP) / 2
        brush.text((x, above - 5), shortened(text, width, face), INK, face, anchor="mb")
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            sheet.paste(cell, (beside + j * width, above + i * height))
        if left:
            words = "\n".join(wrapped(left[i], 150, face))
            brush.multiline_text((GAP, above + i * height + height / 2), words, INK, face, anchor="lm")
    return sheet


def channels(latent: Tensor, side: int = 96) -> list[Image.Image]:
    """The channels of one latent [z, h, w] as pictures: blue below zero, white at zero, red above."""
    return [resize_to(channel_image(channel.detach().float().cpu()), side) for channel in latent]


def figure(columns: int = 1, width: float = 5.2, height: float = 3.1, **shared) -> tuple[Figure, list[Axes]]:
    """A figure with some axes side by side, each `width` x `height` inches, to draw on and give to `picture`."""
    drawn = Figure(figsize=(columns * width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = list(drawn.subplots(1, columns, squeeze=False, **shared)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return drawn, axes


def planes(titles: Sequence[str], side: float = 2.6, reach: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure of square pieces of the plane, from -reach to reach both ways, side by side under their titles."""
    drawn, axes = figure(len(titles), side, side + 0.25)
    for axis, title in zip(axes, titles):
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color("0.8")
        axis.set_title(title, fontsize=10)
    return drawn, axes


def arrows(axis: Axes, places: Tensor, vectors: Tensor, color: str = "0.45", longest: float = 0.26) -> None:
    """An arrow at each place along its vector, of at most `longest`: lengths above 1 are compressed."""
    lengths = vectors.norm(dim=1, keepdim=True)
    drawn = longest * vectors * lengths.tanh() / lengths.clamp(min=1e-9)
    axis.quiver(
        *places.T, *drawn.T, color=color, angles="xy", scale_units="xy", scale=1, width=0.005, headwidth=4
    )


def picture(drawn: Figure, dpi: int = 80) -> Image.Image:
    """A matplotlib figure as a PIL image."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.08)
    return Image.open(file).convert("RGB")


def curve(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    xscale: str = "linear",
    yscale: str = "linear",
    marker: str = "",
) -> Image.Image:
    """Named lines over one x: `curve(steps, {"loss": losses}, "step", "loss", yscale="log")`."""
    drawn, [axis] = figure()
    for name, y in lines.items():
        axis.plot(np.asarray(x), np.asarray(y), label=name, marker=marker, markersize=4)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale=xscale, yscale=yscale)
    if len(lines) > 1:
        axis.legend(frameon=False)
    return picture(drawn)


def heat(
    values: Sequence[Sequence[float]],
    left: Sequence[str] = (),
    top: Sequence[str] = (),
    title: str = "",
    digits: int | None = 2,
    side: float = 0.55,
) -> Image.Image:
    """A matrix as coloured squares of `side` inches, its numbers written in them (`digits=None`: not)."""
    matrix = np.asarray(values, dtype=float)
    rows, columns = matrix.shape
    drawn, [axis] = figure(
        width=side * columns + 0.4 + 0.08 * max(map(len, left), default=0), height=side * rows + 1.4
    )
    axis.imshow(matrix, cmap="viridis")
    axis.spines[:].set_visible(False)
    axis.set_xticks(range(len(top)), top, rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(left)), left, fontsize=8)
    axis.set_title(title, fontsize=10)
    middle = (matrix.min() + matrix.max()) / 2
    for i, j in np.ndindex(rows, columns) if digits is not None else ():
        ink = "white" if matrix[i, j] < middle else "black"
        axis.text(j, i, f"{matrix[i, j]:.{digits}f}", ha="center", va="center", color=ink, fontsize=8)
    return picture(drawn)


def recorded(stage: str) -> dict[str, np.ndarray]:
    """The columns of the log of the training that made the shipped model: stage "clip", "vae", "diffusion" or "match".

    Each log has "step", "loss" and "seconds"; what was not measured is nan.
    """
    with open(ROOT / "docs" / "curves" / f"{stage}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def titled(image: Image.Image, title: str) -> Image.Image:
    """The picture under a line of text."""
    sheet = Image.new("RGB", (image.width, image.height + 22), PAPER)
    ImageDraw.Draw(sheet).text(
        (GAP, 4), shortened(title, image.width - 2 * GAP, font(LETTERS)), PALE, font(LETTERS)
    )
    sheet.paste(image, (0, 22))
    return sheet
