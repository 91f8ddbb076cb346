r"""Curves and the similarity grid: that they are images, and of the numbers given."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from ldm.train.log import Log, seconds_spent
from ldm.train.loop import Recipe, train
from ldm.train.plot import plot_losses, plot_similarity


@pytest.fixture
def figures(monkeypatch):
    r"""Every figure that is written."""
    written, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (written.append(self), save(self, *a, **k))[1]
    )
    return written


def png(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_curve_goes_through_its_points(tmp_path, figures):
    (tmp_path / "vae").mkdir()
    log = tmp_path / "vae" / "log.csv"
    log.write_text("step,loss,seconds\n20,4.0,1\n40,2.0,2\n")
    plot_losses([tmp_path / "vae"], tmp_path / "loss.png")
    [axes] = figures[0].axes
    assert axes.lines[0].get_xydata().tolist() == [[20, 4], [40, 2]]
    assert axes.get_yscale() == "log" and axes.get_title() == "vae"
    assert png(tmp_path / "loss.png").std() > 5
    log.write_text("step,loss,seconds\n20,4.0,1\n40,-2.0,2\n")  # which has no logarithm
    plot_losses([tmp_path / "vae"], tmp_path / "loss.png")
    assert figures[1].axes[0].get_yscale() == "linear"


def test_curves_of_several_runs_stand_side_by_side(tmp_path, figures):
    for name, losses in (("clip", [3, 2]), ("vae", [5, 4, 1])):
        log = Log(tmp_path / name)
        for step in range(20 * len(losses)):
            log.add(step, float(losses[step // 20]))
    plot_losses([tmp_path / "clip", tmp_path / "vae"], tmp_path / "curves.png")
    [figure] = figures
    assert [axes.get_title() for axes in figure.axes] == ["clip", "vae"]
    assert [axes.lines[0].get_ydata().tolist() for axes in figure.axes] == [[3, 2], [5, 4, 1]]
    assert png(tmp_path / "curves.png").std() > 5


def test_the_similarity_grid_shows_the_numbers_row_by_caption(tmp_path, figures):
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    cosines = torch.tensor([[0.9, 0.1], [0.2, 0.8]])  # [caption, image]
    plot_similarity(images, ["red", "green"], cosines, tmp_path / "s.png")
    axes = figures[0].axes[0]
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (0, 0): "0.90", (1, 0): "0.10", (0, 1): "0.20", (1, 1): "0.80",
    }  # fmt: skip
    assert [t.get_text() for t in axes.get_yticklabels()] == ["red", "green"]
    np.testing.assert_allclose(axes.images[0].get_array(), cosines.numpy())
    assert png(tmp_path / "s.png").std() > 5


def test_the_seconds_of_all_attempts_are_added_up(tmp_path):
    module = torch.nn.Linear(1, 1)
    train(module, lambda step: module.weight.square().sum(), Recipe(40, 1, 0.1), tmp_path)
    spent = seconds_spent(tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,loss,seconds" and 0 < spent < 60
    state = {"lines": [(20, 1.0, 99.0)], "recent": [2.0], "seconds": 100.0}
    log = Log(tmp_path, state)
    assert 100 < log.seconds < 160 and log.state()["recent"] == [2.0]
    for step in range(21, 40):
        log.add(step, 4.0)
    step, loss, seconds = (tmp_path / "log.csv").read_text().splitlines()[2].split(",")
    assert (step, float(loss)) == ("40", (2 + 19 * 4) / 20) and 100 <= float(seconds) < 160
