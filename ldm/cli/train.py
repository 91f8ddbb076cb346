"""`ldm train`: learn the tiny model from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import add_compile, check_compiler
from ldm.errors import LdmError

if TYPE_CHECKING:
    from ldm.cli.arguments import Commands


def train_options(commands: Commands) -> None:
    p = commands.add_parser(
        "train",
        help="train the tiny model from nothing",
        description="Train one stage of the tiny model, or all of them, on the captioned world that it draws.",
    )
    p.set_defaults(command=train)
    p.add_argument(
        "stage", choices=("all", "tokenizer", "clip", "vae", "diffusion"), help="all: these four in order"
    )
    p.add_argument("--out", type=Path, default=Path("weights/mine"), metavar="DIR", help="the model's folder")
    p.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the pictures, the start and the noise"
    )
    p.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="so many steps instead of the recipe's (not for the tokenizer): few to try things out",
    )
    p.add_argument(
        "--preset",
        choices=("quick", "full"),
        default="full",
        help="quick: recognisable pictures soon, in a smaller world; full: the weights that ship (the default)",
    )
    p.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="your own pictures: images, and metadata.jsonl with file_name and text, or a .txt beside each",
    )
    p.add_argument(
        "--without",
        nargs="+",
        choices=("perceptual", "adversarial", "kl"),
        default=(),
        help="losses that the VAE does without, to see what they are good for",
    )
    add_compile(
        p,
        "the U-Net's training steps take four fifths of the time, once some seconds or minutes have passed",
    )
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def train(options: argparse.Namespace) -> None:
    if options.stage == "tokenizer" and options.steps is not None:
        raise LdmError(
            f"--steps {options.steps}; the tokenizer has no steps, it is learned whole: leave --steps out"
        )

    check_compiler(options)

    from ldm.train import processes
    from ldm.train.stages import STAGES, train_stage

    with processes.process_group():
        for stage in STAGES if options.stage == "all" else (options.stage,):
            train_stage(
                stage,
                options.out,
                options.seed,
                options.resume,
                options.steps,
                options.preset,
                options.data,
                options.without,
                bool(options.compile),
            )
        if processes.rank() == 0:
            print(f"the model is in {options.out}; paint with: ldm generate PROMPT --model {options.out}")
