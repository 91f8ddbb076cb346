r"""The four stages in order, and the recipe that made the weights that ship."""

import json
import time
from dataclasses import replace
from pathlib import Path

from ldm.config import TINY
from ldm.convert.folder import read_config
from ldm.errors import LdmError
from ldm.files import atomic_path
from ldm.train.clip import train_clip
from ldm.train.data import draw_pictures
from ldm.train.diffusion import train_diffusion
from ldm.train.loop import Recipe
from ldm.train.tokenizer import train_tokenizer
from ldm.train.vae import train_vae

PICTURES, HELD_OUT = 20_000, 2_000

RECIPES = {
    "clip": Recipe(steps=700, batch=256, lr=1e-3, ema=0.99),
    "vae": Recipe(steps=5000, batch=8, lr=1e-3, ema=0.998),
    "diffusion": Recipe(steps=4600, batch=32, lr=6e-4, ema=0.9985),
}
STAGES = ("tokenizer", *RECIPES)


def train_stage(
    stage: str, folder: Path, seed: int = 0, resume: bool = False, steps: int | None = None
) -> None:
    """Train one stage of the tiny model into `folder`, which holds what the stages before it made.

    Beside the model's files, `folder`/runs/STAGE keeps the loss log and the checkpoint, and
    `folder`/runs/report.json what each stage reached and how long it took. `steps` shortens the recipe.
    """
    if not 0 <= seed < 2**32:
        raise LdmError(f"seed {seed}; expected a whole number from 0 to 2**32 - 1")
    if steps is not None and steps < 1:
        raise LdmError(f"{steps} training steps; expected at least 1")
    started = time.monotonic()
    runs = folder / "runs"
    if stage == "tokenizer":
        reached: dict[str, float] = {"vocabulary": train_tokenizer(TINY, folder, seed=seed).text.vocab_size}
    else:
        read_config(folder)  # a missing one should be missed before the pictures are drawn
        recipe = RECIPES[stage] if steps is None else replace(RECIPES[stage], steps=steps)
        size = TINY.defaults.size
        pictures = draw_pictures(runs, "train", PICTURES, size, seed)
        held_out = draw_pictures(runs, "held_out", HELD_OUT, size, seed + 1)
        run = {"clip": train_clip, "vae": train_vae, "diffusion": train_diffusion}[stage]
        reached = run(folder, runs / stage, pictures, held_out, recipe, seed, resume)
    report_path = runs / "report.json"
    report = json.loads(report_path.read_text()) if report_path.exists() else {}
    minutes = (time.monotonic() - started) / 60 + (report.get(stage, {}).get("minutes", 0) if resume else 0)
    report[stage] = reached | {"minutes": minutes}
    with atomic_path(report_path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    for name, value in report[stage].items():
        print(f"{stage}: {name}: {value:.4g}")
