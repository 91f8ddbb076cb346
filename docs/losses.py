r"""`make losses`: train the quick recipe's VAE with all its losses and without one or two of them, and compare.

The arms differ in nothing else: seed, pictures, batches and noise are the same. What they reach is measured on drawings
of combinations that no training saw. It goes on where it was interrupted; the models stay in outputs/losses/.
"""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.checkpoints.folder import fill, read_clip, read_config, read_tensors, write_config
from ldm.images.pixels import to_images
from ldm.lab.evaluate.reconstruction import psnr, ssim
from ldm.lab.evaluate.sheets import titled_rows
from ldm.train.data import CaptionedImages, draw_postcards
from ldm.train.perceptual import perceptual_loss
from ldm.train.stages import PRESETS
from ldm.train.vae import slope_ratio, train_vae
from ldm.vae.vae import VAE

HERE = Path(__file__).parent
WORK, SHIPPED = Path("outputs/losses"), HERE.parent / "weights" / "tiny"
# What each arm does without.
ARMS: dict[str, tuple[str, ...]] = {
    "all losses": (),
    "without perceptual": ("perceptual",),
    "without adversarial": ("adversarial",),
    "without both": ("perceptual", "adversarial"),
    "without KL": ("kl",),
}
PICTURES, HELD_OUT = 8_000, 500  # of all places and animals
WHOLE = replace(PRESETS["quick"].recipes["vae"], steps=1500, batch=8)  # pictures, not pieces
# How far latents are pushed, in standard deviations, to see what the decoder makes of near misses.
NUDGE = 0.2
PAGE = f"""\
# What each loss of the VAE does

The VAE of the quick recipe, trained with all four losses of [`ldm/train/vae.py`](../ldm/train/vae.py), then without
one or two of them; everything else is the same. Unlike the recipe, this trains on whole images, because the
perceptual loss has to recognise what they show, and on the whole world of postcards. (The recipe corresponds to
"without both", on crops of a smaller world.) Measured on {{count}} drawings of combinations that training never saw.
Written by `make losses`.

![Drawings, and the reconstructions of each VAE](images/losses.png)

{{table}}

PSNR and SSIM: higher is closer. *Slopes*: how steep the edges of the reconstructions are, relative to the
originals; below 1, edges are blurred. *Perceptual distance*: between CLIP's features of both, from 0 to 4.
*Pushed*: the PSNR of images decoded from latents (of standard deviation 1) with added noise of standard deviation
{NUDGE}, because what a U-Net generates is never exact. The *encoder's own deviation* is the spread of latents that
the decoder was trained to decode to the same image.

[Training it yourself](training.md#what-the-losses-are-for) says what follows from this.
"""
HEAD = """\
| | PSNR | SSIM | slopes | perceptual distance | PSNR, latents pushed | the encoder's own deviation |
|---|---:|---:|---:|---:|---:|---:|"""
SHOWN = 6  # pictures on the sheet, each enlarged so often:
ENLARGED = 2


def train_arm(
    name: str, without: Sequence[str], pictures: CaptionedImages, held_out: CaptionedImages
) -> Path:
    """The folder of an arm's trained VAE. The perceptual loss looks with the eyes of the shipped model's CLIP."""
    folder, preset = WORK / name.replace(" ", "-"), PRESETS["quick"]
    if not folder.exists():
        shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("unet*", "vae*"))
        write_config(folder, replace(read_config(SHIPPED), vae=preset.config.vae))
    train_vae(folder, folder / "run", pictures, held_out, WHOLE, 0, resume=True, without=without)
    return folder


@torch.no_grad()
def measure(folder: Path, held_out: CaptionedImages, pixels: Tensor) -> tuple[list[str], Tensor]:
    """A line of the table, and the reconstructions."""
    clip, _ = read_clip(folder)
    vae = read_vae(folder)
    mean, logvar = vae.encode(pixels)
    painted = vae.decode(mean).clamp(-1, 1)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    nudged = vae.decode(mean + NUDGE * noise).clamp(-1, 1)
    figures = [
        f"{psnr(pixels, painted).mean():.2f} dB",
        f"{ssim(pixels, painted).mean():.3f}",
        f"{slope_ratio(vae, held_out):.3f}",
        f"{perceptual_loss(clip.image, pixels, painted, clip.image_size):.3f}",
        f"{psnr(pixels, nudged).mean():.2f} dB",
        f"{(logvar / 2).exp().mean():.3f}",
    ]
    return figures, painted


def read_vae(folder: Path) -> VAE:
    """The VAE alone: nothing else of these models but CLIP is ever trained."""
    vae, path = VAE(read_config(folder).vae), folder / "vae.safetensors"
    fill(vae, read_tensors(path), path)
    return vae.eval()


def sheet(pixels: Tensor, rows: dict[str, Tensor]) -> None:
    """The originals, and below them what each arm makes of them, enlarged without smoothing."""
    shown = {"drawn": pixels} | rows
    images = [
        [
            image.resize((ENLARGED * image.width,) * 2, Image.Resampling.NEAREST)
            for image in to_images(row[:SHOWN])
        ]
        for row in shown.values()
    ]
    titled_rows(list(shown), images).save(HERE / "images" / "losses.png")


def main() -> str:
    """Train, measure and draw; returns the page."""
    lines, rows, size = [], {}, PRESETS["quick"].config.defaults.size
    pictures = draw_postcards(WORK, "train", PICTURES, size, 0)
    held_out = draw_postcards(WORK, "held_out", HELD_OUT, size, 1)
    pixels = held_out.batch(np.arange(len(held_out)))
    for name, without in ARMS.items():
        folder = train_arm(name, without, pictures, held_out)
        figures, rows[name] = measure(folder, held_out, pixels)
        lines.append(f"| {' | '.join([name, *figures])} |")
    sheet(pixels, rows)
    return PAGE.format(count=len(held_out), table="\n".join([HEAD, *lines]))


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the stages report there
        page = main()
    print(page, end="")
