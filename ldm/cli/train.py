"""`ldm train`: train the tiny model from scratch."""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm.cli.arguments import Commands, add_command, add_compile, check_compiler
from ldm.errors import LdmError


def train_options(commands: Commands) -> None:
    about = (
        "Train one stage of the tiny model, or all of them, on the captioned world that the package draws."
    )
    p = add_command(commands, "train", train, "train the tiny model from scratch", about)
    stages = ("all", "tokenizer", "clip", "vae", "diffusion")
    p.add_argument("stage", choices=stages, help="all: these four in order")
    p.add_argument("--out", type=Path, default=Path("weights/mine"), metavar="DIR", help="the model's folder")
    p.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of images, initial weights and noise (0)"
    )
    p.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="training steps (default: the recipe's; the tokenizer has none): few to try things out",
    )
    p.add_argument(
        "--preset",
        choices=("quick", "full"),
        default="full",
        help="quick: recognisable images soon, in a smaller world; full: the weights that ship (the default)",
    )
    p.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="your own images, with metadata.jsonl (file_name and text), or a .txt file beside each",
    )
    p.add_argument(
        "--without",
        nargs="+",
        choices=("perceptual", "adversarial", "kl"),
        default=(),
        help="losses to leave out of the VAE's, to see what they are for",
    )
    add_compile(
        p,
        "its training steps take four fifths of the time, after a few seconds or minutes",
    )
    p.add_argument("--resume", action="store_true", help="continue from the last checkpoint")


def train(options: argparse.Namespace) -> None:
    if options.stage == "tokenizer" and options.steps is not None:
        raise LdmError(f"--steps {options.steps}; the tokenizer is not trained in steps: leave out --steps")

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
            print(f"the model is in {options.out}; use it with: ldm generate PROMPT --model {options.out}")
