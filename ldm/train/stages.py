r"""The five training stages and their presets: `full` for the shipped weights, `quick` for a first result."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ldm.backend.cpu import cpu_name
from ldm.checkpoints.folder import read_config
from ldm.config import TINY, Config, ImageConfig, NoiseConfig, UNetConfig, UNetLevel, VAEConfig
from ldm.errors import LdmError
from ldm.files.leftovers import sweep_folder
from ldm.files.read_write import atomic_path, read_json
from ldm.postcards import SUBJECTS
from ldm.train.clip import train_clip
from ldm.train.data import CaptionedImages, draw_importance, draw_postcards
from ldm.train.diffusion import train_diffusion
from ldm.train.log import seconds_spent
from ldm.train.loop import Recipe
from ldm.train.own import read_image_folder
from ldm.train.plot import plot_losses
from ldm.train.processes import barrier, device, rank, world_size
from ldm.train.tokenizer import postcard_captions, train_tokenizer
from ldm.train.vae import train_vae

CAPTIONS = 40_000  # the number of captions that the tokenizer is trained on


@dataclass(frozen=True)
class Preset:
    """The model to train, the number of images, and the recipe of each stage."""

    config: Config
    images: int
    held_out: int
    recipes: dict[str, Recipe]
    without: tuple[str, ...] = ()  # losses that the VAE leaves out
    subjects: tuple[str, ...] = SUBJECTS  # what the images show
    crop: int | None = None  # the VAE is trained on crops of this size; None for whole images


# The tiny model, reduced: images of half the size and a VAE with one level less, so latents are 16x16 in both, but with
# a quarter of the channels. In the same time, many cheap steps train it better than few expensive ones. It predicts the
# noise: after 700 steps, a U-Net that predicts v painted only patches.
SMALL = replace(
    TINY,
    name="small",
    noise=NoiseConfig(),
    text=replace(TINY.text, width=128, layers=3),
    image=ImageConfig(64, patch=16, width=128, layers=3, heads=4, activation="quick_gelu"),
    vae=VAEConfig((16, 32, 64), res_per_level=1, latent_channels=4, scale=1.0, groups=4),
    unet=UNetConfig((UNetLevel(64, 4, 0), UNetLevel(128, 4, 1), UNetLevel(192, 6, 1)), 128, res_per_level=1),
    defaults=replace(TINY.defaults, size=64),
)

PRESETS = {
    "quick": Preset(
        SMALL,
        images=5_000,
        held_out=500,
        recipes={
            "clip": Recipe(steps=350, batch=128, lr=1e-3, warmup=50, ema=0.97),
            "vae": Recipe(steps=1200, batch=16, lr=2e-3, warmup=100, ema=0.99),
            "diffusion": Recipe(steps=1000, batch=16, lr=1e-3, warmup=100, ema=0.99),
            "match": Recipe(steps=100, batch=128, lr=1e-3, warmup=20, ema=0.97),
        },
        # A small corner of the world, with clear skies and one style: half an hour is too short for all of it.
        subjects=("lake", "forest", "dog", "cat", "waterfall", "boat", "house", "balloon"),
        # These losses sharpen images that are nearly right already; a short run does not get that far.
        without=("perceptual", "adversarial"),
        crop=32,
    ),
    "full": Preset(
        TINY,
        images=50_000,
        held_out=2_000,
        recipes={
            "clip": Recipe(steps=5000, batch=96, lr=1e-3, ema=0.99),
            "vae": Recipe(steps=16000, batch=8, lr=1e-3, ema=0.998),
            "diffusion": Recipe(steps=15_000, batch=32, lr=6e-4, ema=0.9985),
            "match": Recipe(steps=800, batch=96, lr=1e-3, warmup=100, ema=0.99),
        },
        crop=64,
    ),
}
STAGES = ("tokenizer", "clip", "vae", "diffusion", "match")
# The files of earlier stages that each stage reads.
REQUIRED_FILES = {
    "tokenizer": (),
    "clip": (),
    "vae": ("text.safetensors", "clip.safetensors"),  # the perceptual loss uses its image encoder
    "diffusion": ("text.safetensors", "vae.safetensors"),
    "match": ("text.safetensors", "clip.safetensors"),
}


def train_stage(
    stage: str,
    folder: Path,
    seed: int = 0,
    resume: bool = False,
    steps: int | None = None,
    preset: str = "full",
    data: Path | None = None,
    without: Sequence[str] = (),
    compiled: bool = False,
    start_from: Path | None = None,
) -> None:
    """Train one stage of the model in `folder`, which holds the results of the earlier stages.

    Beside the model's files, `folder`/runs/STAGE keeps the stage's log, curve, samples and checkpoint;
    `folder`/runs/curves.png all curves side by side; and `folder`/runs/report.json the metrics, duration and machine
    of each stage. `steps` replaces the number of steps of the recipe; `data` is a folder of your own images; `without`
    names losses that the VAE leaves out ("perceptual", "adversarial"), to see what they contribute; `compiled` compiles
    the U-Net with torch.compile; `start_from` is the folder of a model with whose weights the stage begins ("match"
    always begins with those in `folder`).
    """
    if not 0 <= seed < 2**32:
        raise LdmError(f"seed {seed}; expected a whole number from 0 to 2**32 - 1")
    if steps is not None and steps < 1:
        raise LdmError(f"{steps} training steps; expected at least 1")
    check_inputs(folder, stage)
    check_preset(folder, preset)
    check_writable(folder)
    if stage == "tokenizer":
        if rank() == 0:  # the other processes read what it wrote
            learn_vocabulary(folder, seed, preset, data)
    else:
        recipe = PRESETS[preset].recipes[stage]
        recipe = recipe if steps is None else replace(recipe, steps=steps)
        images, held_out = load_images(folder, PRESETS[preset], seed, data)
        left_out, crop = (*PRESETS[preset].without, *without), PRESETS[preset].crop
        runs: dict[str, Callable[..., dict[str, float]]] = {
            "clip": partial(train_clip, start_from=start_from),
            "vae": partial(train_vae, without=left_out, crop=crop, start_from=start_from),
            "diffusion": partial(train_diffusion, compiled=compiled, start_from=start_from),
            "match": partial(train_clip, freeze_text=True),
        }
        where = folder / "runs" / stage
        metrics = runs[stage](folder, where, images, held_out, recipe, seed, resume)
        if rank() == 0:
            write_report(folder, stage, metrics, seconds_spent(where), preset)
            logged = [folder / "runs" / s for s in STAGES if (folder / "runs" / s / "log.csv").exists()]
            plot_losses(logged, folder / "runs" / "curves.png")
    barrier()


def learn_vocabulary(folder: Path, seed: int, preset: str, data: Path | None) -> None:
    """The first stage: train the tokenizer on captions of postcards, or of your own images in `data`."""
    started, config = time.monotonic(), PRESETS[preset].config
    if data is None:
        texts = postcard_captions(CAPTIONS, seed)
    else:
        texts = [str(text) for text in read_image_folder(data, config.defaults.size)[0].scenes]
    vocabulary = train_tokenizer(config, folder, texts).text.vocab_size
    write_report(folder, "tokenizer", {"vocabulary": float(vocabulary)}, time.monotonic() - started, preset)


def check_inputs(folder: Path, stage: str) -> None:
    """Raise `LdmError` if a file of an earlier stage is missing, before any images are drawn."""
    if stage != "tokenizer":
        read_config(folder)
    for name in REQUIRED_FILES[stage]:
        if not (folder / name).is_file():
            raise LdmError(f"{folder / name} is missing; train the stages in this order: {', '.join(STAGES)}")


def check_preset(folder: Path, preset: str) -> None:
    """Raise `LdmError` if `folder` holds the model of another preset, which this recipe does not fit."""
    if (folder / "config.json").is_file():
        found = read_config(folder).name
        others = [name for name, other in PRESETS.items() if other.config.name == found]
        if others and preset not in others:
            raise LdmError(
                f"{folder} holds the model {found!r} of the preset {others[0]}, not one of {preset}; "
                f"give --preset {others[0]}, or another folder (--out)"
            )


def check_writable(folder: Path) -> None:
    """Raise `LdmError` if `folder` is not writable, before any time is spent on training."""
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / "tokenizer", folder / "runs"):
            sweep_folder(place)
        with tempfile.TemporaryFile(dir=folder / "runs"):
            pass
    except OSError as error:
        raise LdmError(f"cannot write to {folder}: {error.strerror}; give another place (--out)") from error


def load_images(
    folder: Path, preset: Preset, seed: int, data: Path | None
) -> tuple[CaptionedImages, CaptionedImages]:
    """The training and the held-out images, in the default size of the model in `folder`."""
    config, runs = read_config(folder), folder / "runs"
    size = config.defaults.size
    if data is not None:
        return read_image_folder(data, size)
    drawn = draw_postcards(runs, "train", preset.images, size, seed, preset.subjects)
    importance = draw_importance(runs, drawn, size // config.vae.factor, seed, preset.subjects)
    return (
        replace(drawn, importance=importance),
        draw_postcards(runs, "held_out", preset.held_out, size, seed + 1, preset.subjects),
    )


def write_report(folder: Path, stage: str, metrics: dict[str, float], seconds: float, preset: str) -> None:
    """Print the metrics of a stage and add them to report.json, with the hardware and torch's version."""
    path = folder / "runs" / "report.json"
    report = read_json(path) if path.exists() else {}
    metrics = metrics | {"minutes": seconds / 60}
    for name, value in metrics.items():
        print(f"{stage}: {name}: {value:.4g}")
    kind = (
        torch.cuda.get_device_name() if device().type == "cuda" else f"{cpu_name()}, {os.cpu_count()} cores"
    )
    machine = f"{world_size()} x {kind}, torch {torch.__version__}"
    report[stage] = metrics | {"preset": preset, "machine": machine}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
