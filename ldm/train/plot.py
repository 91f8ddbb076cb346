r"""Plots of training: loss curves, and the similarities of captions and images."""

import csv
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ldm.files.read_write import atomic_path, open_regular

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_losses(runs: Sequence[Path], path: Path) -> None:
    """Plot the loss curves of one or more runs side by side, read from their log.csv, as a PNG."""
    figure = _figure(5.0 * len(runs), 4.0)
    for axes, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs):
        with TextIOWrapper(open_regular(run / "log.csv"), encoding="utf-8", newline="") as file:
            points = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
        axes.plot([step for step, _ in points], [loss for _, loss in points], linewidth=1)
        # A logarithmic axis also shows the slow part of the decrease. A loss with an adversarial term may be negative
        # and stays on a linear axis.
        if points and min(loss for _, loss in points) > 0:
            axes.set_yscale("log")
        axes.set(title=run.name, xlabel="step", ylabel="loss")
        axes.locator_params(axis="x", nbins=5)  # so that the numbers do not touch
        axes.grid(alpha=0.3, which="both")
    _write(figure, path)


def plot_similarity(
    images: Sequence[Image.Image], captions: Sequence[str], cosines: Float[Tensor, "n n"], path: Path
) -> None:
    """Plot cosine similarities: a row for each caption, a column for each image, the true pairs on the diagonal."""
    figure = _figure(1.2 * len(images) + 5, 0.9 * len(images) + 1.5)
    axes = figure.subplots()
    axes.imshow(cosines.float().cpu().numpy(), cmap="viridis")
    axes.set_yticks(range(len(captions)), captions)
    axes.set_xticks([])
    for i in range(len(images)):
        for j in range(len(captions)):
            axes.text(i, j, f"{cosines[j, i]:.2f}", ha="center", va="center", color="white", fontsize=8)
        thumbnail = axes.inset_axes((i - 0.45, -1.5, 0.9, 0.9), transform=axes.transData)
        thumbnail.imshow(images[i])
        thumbnail.axis("off")
    _write(figure, path)


def _figure(width: float, height: float) -> "Figure":
    # Imported late because it takes half a second. Not pyplot, which has global state and may need a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: "Figure", path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
