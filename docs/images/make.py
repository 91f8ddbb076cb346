r"""`make pictures`: paint the pictures of the README and of the tour anew, with the commands that they quote.

The demo sheet and the contact sheet are painted by `make demo` and `make contact-sheet`.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ldm.cli import main
from ldm.config import NoiseConfig
from ldm.diffusion.level import vp_level
from ldm.diffusion.schedule import make_alpha_bar
from ldm.images.pixels import to_images, to_pixels
from ldm.lab.evaluate.sheets import titled_rows
from ldm.loading import load
from ldm.postcards.series import postcard

HERE = Path(__file__).parent
# What the tour's first and last step speak of; its code paints the first picture of the second row.
TOUR = {
    "tour.png": ("a serene lake surrounded by snow-capped mountains at sunrise", "a dog with glasses"),
    "tour-fr.png": ("forêt sereine avec cascade au lever du soleil", "un chien avec des lunettes"),
}


def ldm(*arguments: object) -> None:
    if main([str(argument) for argument in arguments]):
        raise SystemExit(1)


def inpainting(work: Path) -> None:
    r"""A dog, a mask over its head, and the dog with a hat; the rest is kept to the pixel."""
    dog, mask, hat = work / "dog.png", work / "mask.png", work / "hat.png"
    ldm("generate", "a dog with glasses", "--seed", 42, "--out", dog)
    white = Image.new("L", (128, 128))
    ImageDraw.Draw(white).ellipse((30, 0, 98, 45), fill=255)
    white.save(mask)
    options = ("--init", dog, "--mask", mask, "--keep-pixels", "--seed", 42, "--out", hat)
    ldm("generate", "a dog with a hat", *options)
    titles = ["before; white: may change; after"]
    sheet = titled_rows(titles, [[Image.open(path).convert("RGB") for path in (dog, mask, hat)]])
    sheet.save(HERE / "inpainting.png")


def inside(work: Path) -> None:
    r"""The film strip of a painting, and where its words looked."""
    prompt = "a white cat with a scarf on a blue background"
    ldm("generate", prompt, "--seed", 7, "--trace", work / "inside", "--out", work / "cat.png")
    for name in ("film.png", "attention.png"):
        shutil.copy(work / "inside" / name, HERE / name)


def integers(work: Path) -> None:
    r"""The same images in float32, in bfloat16 and with 8-bit integers, and 20 times the differences from float32's."""
    ways = {"float32": (), "bfloat16": (), "int8": ("--int8",)}
    prompts = ("a dog with glasses", "a white cat with a scarf on a blue background", "a lake at night")
    rows = []
    for i, prompt in enumerate(prompts):
        images = []
        for name, option in ways.items():
            path = work / f"{name}-{i}.png"
            options = (
                "--seed",
                42,
                "--sampler",
                "ddim",
                "--dtype",
                "float32" if name == "float32" else "bfloat16",
            )
            ldm("generate", prompt, *options, *option, "--out", path)
            images.append(Image.open(path).convert("RGB"))
        exact = np.asarray(images[0], dtype=int)
        differences = [20 * abs(np.asarray(image, dtype=int) - exact) for image in images[1:]]
        rows.append(images + [Image.fromarray(d.clip(0, 255).astype(np.uint8)) for d in differences])
    titled_rows(
        [f"{prompts[0]}; float32, bfloat16, 8 bits; 20 times the differences", *prompts[1:]], rows
    ).save(HERE / "int8.png")


def noising() -> None:
    r"""A postcard of the training set at six timesteps of Stable Diffusion's schedule, its pixels noised.

    Without margins or letters, so that it is no white slab on a dark page.
    """
    alpha_bar = make_alpha_bar(NoiseConfig())
    x0 = to_pixels([postcard(5, seed=4, size=128).image])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    times = (0, 100, 250, 400, 600, 999)
    images = to_images(torch.cat([vp_level(t, alpha_bar).mix(x0, eps) for t in times]))
    Image.fromarray(np.concatenate(images, axis=1)).save(HERE / "noising.png")


def tour() -> None:
    r"""The tour's prompts in English and in French, from four seeds each, none left out."""
    model = load("tiny")
    for name, prompts in TOUR.items():
        titled_rows(
            prompts,
            [model.generate(prompt, seed=42, batch=4, sampler="ddim", steps=30) for prompt in prompts],
        ).save(HERE / name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        inpainting(Path(folder))
        inside(Path(folder))
        integers(Path(folder))
    noising()
    tour()
    names = ", ".join(["inpainting.png", "film.png", "attention.png", "int8.png", "noising.png", *TOUR])
    print(f"{names} are in {HERE}", file=sys.stderr)
