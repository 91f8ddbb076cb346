"""`ldm train` and `ldm postcards`: the tiny model, and the captioned world that it learns."""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm.cli.arguments import Commands, add_command, add_compile, check_compiler
from ldm.cli.output import save_image
from ldm.errors import LdmError
from ldm.files.read_write import writable


def train_options(commands: Commands) -> None:
    about = "Train one stage of the tiny model, or all of them, on the captioned world drawn by the package."
    p = add_command(commands, "train", train, "train the tiny model from scratch", about)
    stages = ("all", "tokenizer", "clip", "vae", "diffusion", "match")
    what = "all: these five in order; match: CLIP again, to match the text encoder that learned on with the U-Net"
    p.add_argument("stage", choices=stages, help=what)
    p.add_argument(
        "--out",
        type=Path,
        default=Path("weights/mine"),
        metavar="DIR",
        help="the model's folder (weights/mine)",
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of data, initial weights and noise (0)")
    p.add_argument(
        "--steps", type=int, metavar="N", help="training steps (default: the recipe's); not for the tokenizer"
    )
    preset = "quick: recognisable images soon, in a smaller world; full: the weights that ship (the default)"
    p.add_argument("--preset", choices=("quick", "full"), default="full", help=preset)
    data = "your own images, with metadata.jsonl (file_name and text), or a .txt file beside each"
    p.add_argument("--data", type=Path, metavar="DIR", help=data)
    losses = ("perceptual", "adversarial", "kl")  # of the VAE
    without = f"losses of the VAE to leave out, to see what they are for: {', '.join(losses)}"
    p.add_argument("--without", nargs="+", choices=losses, default=(), metavar="LOSS", help=without)
    start = "begin with the weights of this model; its VAE may have fewer channels"
    p.add_argument("--start-from", type=Path, metavar="DIR", help=start)
    add_compile(p, "its training steps take four fifths of the time, after a few seconds or minutes")
    p.add_argument("--resume", action="store_true", help="continue from the last checkpoint")


def train(options: argparse.Namespace) -> None:
    if options.stage == "tokenizer" and options.steps is not None:
        raise LdmError(f"--steps {options.steps}; the tokenizer is not trained in steps: leave out --steps")
    if options.start_from and options.stage == "tokenizer":
        raise LdmError("--start-from: the tokenizer has no weights to begin with; leave it out")
    if options.start_from and options.stage == "match":
        raise LdmError(
            "--start-from: this stage begins with the weights in the model's own folder; leave it out"
        )
    if options.without and options.stage not in ("vae", "all"):
        raise LdmError(f"--without is for the stage vae, not for {options.stage}; leave it out")

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
                options.start_from,
            )
        if processes.rank() == 0:
            print(f"the model is in {options.out}; use it with: ldm generate PROMPT --model {options.out}")


def postcards_options(commands: Commands) -> None:
    p = add_command(commands, "postcards", postcards, "draw the captioned world")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--grid", type=Path, metavar="PNG", help="write a contact sheet here")
    folder = "write single images and their captions here, as `ldm train --data DIR` reads them"
    what.add_argument("--words", action="store_true", help="print the words of the captions, by language")
    what.add_argument("--folder", type=Path, metavar="DIR", help=folder)
    p.add_argument("--count", type=int, default=100, metavar="N", help="number of single images (100)")
    p.add_argument("--size", type=int, default=128, metavar="N", help="width and height in pixels (128)")


def postcards(options: argparse.Namespace) -> None:
    from ldm.postcards import LANGUAGES, contact_sheet, export, vocabulary

    if options.words:
        for language in LANGUAGES:
            words = vocabulary(language)
            print(f"{language}, {len(words)} words: {', '.join(words)}")
        return
    if options.folder is not None:
        with writable(options.folder):
            export(options.folder, options.count, options.size)
        print(options.folder)
        return
    if options.grid.suffix.lower() != ".png":
        raise LdmError(f"--grid {options.grid}; images are written as .png: give such a name")
    save_image(contact_sheet(options.size), options.grid)
