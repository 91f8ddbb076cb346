"""`ldm generate`: paint a prompt, or a picture again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import (
    add_compile,
    add_device,
    add_loading,
    add_many,
    add_model,
    add_sampling,
    add_size,
    check_compiler,
)
from ldm.cli.output import check_folder, check_place, output_folder
from ldm.files.leftovers import sweep_folder

if TYPE_CHECKING:
    from ldm.cli.arguments import Commands

# What --from reads from the picture, and therefore does not take. (--steps, --size, --batch, --long-prompt and
# --compile may repeat what the picture says: it does not get much of these unasked.)
RECORDED = (
    "prompt", "negative", "sampler", "guidance", "seed", "strength", "keep_pixels",
    "dtype", "no_weighting", "weights", "prediction", "tile",
)  # fmt: skip


def generate_options(commands: Commands) -> None:
    p = commands.add_parser("generate", help="paint a prompt", description="Paint a prompt.")
    p.set_defaults(command=generate, wrong_usage=p.error)
    p.add_argument("prompt", nargs="?", help='what to paint, e.g. "a dog with glasses"')
    p.add_argument("--negative", metavar="T", help="what to move away from")
    p.add_argument(
        "--no-weighting",
        action="store_true",
        default=None,
        help="take brackets as text; else (word:1.3) counts more, [word] less",
    )
    p.add_argument(
        "--long-prompt",
        choices=("truncate", "chunk"),
        help="what does not fit is cut off (the default), or read in chunks",
    )
    add_model(p, default=None)
    add_sampling(p)
    add_size(p)
    p.add_argument(
        "--batch", type=int, metavar="N", help="how many pictures, with the seeds SEED, SEED+1, ..."
    )
    p.add_argument("--out", type=Path, metavar="PATH", help="a .png file or a folder (default: outputs/)")
    p.add_argument("--trace", type=Path, metavar="DIR", help="also show there how the picture came about")
    p.add_argument(
        "--tile", action="store_true", default=None, help="large pictures: encode and decode them in tiles"
    )
    add_compile(p, "worth it for many pictures; for Stable Diffusion on a CPU from some 300 steps on")
    add_device(p)
    p.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "float64"),
        help="numbers to compute with (default: what suits the model and the device)",
    )
    add_loading(p)
    add_many(p)
    start = p.add_argument_group("start from a picture")
    start.add_argument("--init", type=Path, metavar="IMG", help="a picture to change")
    start.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="how much of it, over 0 to 1 (all); default: 0.75, or 1 with a mask",
    )
    start.add_argument("--mask", type=Path, metavar="IMG", help="repaint only where this picture is white")
    start.add_argument(
        "--keep-pixels", action="store_true", default=None, help="elsewhere, keep IMG to the very pixel"
    )
    again = p.add_argument_group("the same picture again")
    again.add_argument(
        "--from",
        dest="picture",
        type=Path,
        metavar="PNG",
        help="paint as this picture says that it was painted. Unasked, models are taken from weights/, other files "
        "from the picture's folder, and only if their bytes are the same; else say where they are: --model, --init, "
        "--mask, --config, --vae. Much work has to be asked for, too: repeat --steps, --size, --batch or --compile",
    )


def generate(options: argparse.Namespace) -> None:
    check_usage(options)
    check_place(options.out)
    check_compiler(options)
    if options.trace is not None:
        check_folder(options.trace, options.trace)
    sweep_folder(output_folder(options.out))
    if options.picture is not None:
        from ldm.cli.again import paint_again

        paint_again(options)
    elif options.prompts is not None:
        from ldm.cli.many import paint_many

        paint_many(options)
    else:
        from ldm.cli.new import paint_new

        paint_new(options)


def check_many(options: argparse.Namespace) -> None:
    """What --prompts takes the place of, and what it needs. Ends the program with exit code 2."""
    for name in ("prompt", "trace"):
        if getattr(options, name) is not None:
            option = "a PROMPT" if name == "prompt" else f"--{name}"
            options.wrong_usage(f"--prompts paints a list: leave {option} out, or --prompts")
    if options.seed == -1:
        options.wrong_usage(
            "--prompts could not go on later with a seed drawn at random: give another --seed"
        )
    if options.out is not None and options.out.suffix.lower() == ".png":
        options.wrong_usage(f"--prompts paints many pictures: give a folder, not --out {options.out}")


def check_usage(options: argparse.Namespace) -> None:
    """Options that only make sense with, or without, others. Ends the program with exit code 2."""
    if options.trace is not None and options.compile:
        options.wrong_usage("--trace looks into the U-Net as it is written: leave --compile out")
    if options.picture is not None:
        for name in ("prompts", *RECORDED):
            if getattr(options, name) is not None:
                option = "a PROMPT" if name == "prompt" else f"--{name.replace('_', '-')}"
                options.wrong_usage(f"--from takes that from the picture: leave {option} out, or --from")
        return
    if options.prompts is not None:
        check_many(options)
    elif options.prompt is None:
        options.wrong_usage("expected a PROMPT (or --from PNG)")
    if options.init is None:
        for name, value in (("strength", options.strength), ("mask", options.mask)):
            if value is not None:
                options.wrong_usage(f"--{name} {value} without a picture to start from: give --init IMG too")
    if options.mask is None and options.keep_pixels:
        options.wrong_usage("--keep-pixels without a mask, which says what to keep: give --mask IMG too")
    if options.trace is not None and (options.batch or 1) != 1:
        options.wrong_usage(f"--trace looks at one picture: leave --batch {options.batch} out")
