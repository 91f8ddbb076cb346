r"""A small training run of CLIP, the VAE and the U-Net in float64, alone or as one of several processes under torchrun.

For `test_processes.py`:

python shared_batch.py FOLDER       FOLDER holds a small model; the weights go to FOLDER/averages-WORLD.pt
"""

import sys
from pathlib import Path

import numpy as np
import torch

from ldm.checkpoints.folder import read_clip
from ldm.postcards import postcard
from ldm.train import clip, diffusion, processes, vae
from ldm.train.data import CaptionedImages
from ldm.train.loop import Recipe

RECIPE = Recipe(steps=5, batch=6, lr=1e-3, warmup=1)  # the VAE's last with its discriminator
ROWS = torch.arange(12.0, dtype=torch.float64).reshape(4, 3).sin()


def images(count: int) -> CaptionedImages:
    cards = [postcard(i, seed=4, size=32) for i in range(count)]
    return CaptionedImages(
        [card.scene for card in cards], np.stack([np.asarray(card.image) for card in cards])
    )


def loss_of_all(rows: torch.Tensor) -> torch.Tensor:
    r"""A loss that compares every row with every other row."""
    return (rows @ rows.T).exp().sum().log() + (rows[0] * rows[3]).sum()


def gradient_through_gather() -> tuple[torch.Tensor, torch.Tensor]:
    r"""All rows, and this process's gradient, from `all_gather`."""
    local = ROWS[processes.slice_for_rank(4)].clone().requires_grad_(True)
    everyone = processes.all_gather(local)
    loss_of_all(everyone).backward()
    assert local.grad is not None
    return everyone.detach(), local.grad


def averaged_gradients() -> list[torch.Tensor | None]:
    r"""Gradients rank + 1 for one parameter, none for the other."""
    module = torch.nn.ParameterDict({"used": torch.zeros(2, 2), "unused": torch.zeros(3)})
    module["used"].grad = torch.full((2, 2), processes.rank() + 1.0)
    processes.average_gradients(module)
    return [parameter.grad for parameter in (module["used"], module["unused"])]


def clip_losses(folder: Path) -> dict[str, float]:
    r"""CLIP's loss of a batch of scenes, each with a caption that is nearly right, and of images with captions only."""
    model, tokenizer = read_clip(folder, torch.float64)
    scenes = images(12)
    captioned = CaptionedImages([f"red dog {'red ' * (i % 5)}" for i in range(12)], scenes.pixels)
    with torch.no_grad():
        return {
            name: clip.clip_loss(model, tokenizer, some, 6, np.random.default_rng(7)).item()
            for name, some in (("scenes", scenes), ("captions", captioned))
        }


def main(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    averages = {}
    train, seen = {"clip": clip, "vae": vae, "diffusion": diffusion}, images(12)
    with processes.process_group():
        world, rank = processes.world_size(), processes.rank()
        for name, stage in train.items():
            run = folder / f"run-{world}" / name
            options = {"crop": 16} if name == "vae" else {}  # of 32: every process must choose the same ones
            getattr(stage, f"train_{name}")(folder, run, seen, seen, RECIPE, 0, False, **options)
            processes.barrier()  # process 0 has written what the next stage reads
            averages[name] = torch.load(run / "checkpoint.pt", weights_only=True)["average"]
        found = {
            "averages": averages,
            "clip losses": clip_losses(folder),
            "gather": gradient_through_gather(),
            "gradients": averaged_gradients(),
            "mean": processes.mean_over_ranks(rank + 1.0, 5.0),
        }
    torch.save(found, folder / f"found-{world}-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
