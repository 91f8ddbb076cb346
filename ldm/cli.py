"""The `ldm` command: parse, call, print. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.errors import LdmError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from PIL.Image import Image

    from ldm.diffusion.sampling import Step

    Commands = _SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failure, 130 after Ctrl-C (argparse itself: 2)."""
    options = make_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except LdmError as error:
        print(f"ldm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"ldm: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The grammar of the command line. Each command's options stand in the function before the command."""
    parser = argparse.ArgumentParser(prog="ldm", description="Latent diffusion you can read.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_options in (generate_options, demo_options, train_options, evaluate_options, postcards_options):
        add_options(commands)
    return parser


def generate_options(commands: Commands) -> None:
    p = commands.add_parser("generate", help="paint a prompt", description="Paint a prompt.")
    p.set_defaults(command=generate)
    p.add_argument("prompt", help='what to paint, e.g. "a dog with glasses"')
    p.add_argument("--negative", default="", metavar="T", help="what to move away from")
    p.add_argument(
        "--model", default="tiny", metavar="M", help="a name under weights/, or a folder (default: tiny)"
    )
    p.add_argument("--sampler", metavar="S", help="ddim or ddpm (default: the model's)")
    p.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the model's)")
    p.add_argument("--guidance", type=float, metavar="G", help="how much the prompt counts; 1: no guidance")
    p.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="which noise to start from (default: one drawn at random, and printed)",
    )
    p.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="how many pictures, with the seeds SEED, SEED+1, ...",
    )
    p.add_argument(
        "--size", type=width_and_height, metavar="WxH", help="pixels, e.g. 192x128 (default: the model's)"
    )
    p.add_argument("--out", type=Path, metavar="PATH", help="a .png file or a folder (default: outputs/)")


def generate(options: argparse.Namespace) -> None:
    import random

    import ldm

    seed = options.seed
    if seed is None:
        seed = random.randrange(2**31)
        print(f"seed {seed}", file=sys.stderr)  # on stdout are the pictures' paths alone
    model = ldm.load(options.model)
    own = model.config.defaults.size
    if options.size not in (None, (own, own)):
        print(f"this model was trained at {own}x{own}; at other sizes it may repeat itself", file=sys.stderr)
    images = model.generate(
        options.prompt,
        options.negative,
        steps=options.steps,
        guidance=options.guidance,
        sampler=options.sampler,
        seed=seed,
        size=options.size,
        batch=options.batch,
        progress=progress_bar,
    )
    for i, image in enumerate(images):
        save_image(image, output_path(options.out, f"{seed + i}", i, len(images)))


def demo_options(commands: Commands) -> None:
    p = commands.add_parser(
        "demo", help="paint six prompts", description="Paint six prompts, English and French."
    )
    p.set_defaults(command=demo)
    p.add_argument("--model", default="tiny", metavar="M", help="a name under weights/, or a folder")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="the noise that each prompt starts from")
    p.add_argument("--batch", type=int, default=4, metavar="N", help="how many pictures of each prompt (4)")
    p.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="where the pictures go")
    p.add_argument(
        "--sheet", type=Path, metavar="PNG", help="where the sheet of all goes (default: DIR/demo.png)"
    )


def demo(options: argparse.Namespace) -> None:
    import ldm
    from ldm.evaluate.sheets import titled_rows
    from ldm.postcards import DEMO_PROMPTS

    started = time.monotonic()
    model = ldm.load(options.model)
    rows = []
    for i, prompt in enumerate(DEMO_PROMPTS, start=1):
        print(prompt)
        images = model.generate(prompt, seed=options.seed, batch=options.batch, progress=progress_bar)
        rows.append(images)
        for k, image in enumerate(images):
            save_image(image, options.out / f"demo-{i}-{options.seed + k}.png")
    save_image(titled_rows(DEMO_PROMPTS, rows), options.sheet or options.out / "demo.png")
    count, seconds = sum(map(len, rows)), time.monotonic() - started
    print(f"{count} pictures and a sheet of them in {options.out.resolve()}, {seconds:.1f} s in all")


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
        help="fewer steps than the recipe (not for the tokenizer), to try things out",
    )
    p.add_argument(
        "--preset",
        choices=("quick", "full"),
        default="full",
        help="quick: recognisable pictures soon; full: the weights that ship (the default)",
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
        choices=("perceptual", "adversarial"),
        default=(),
        help="losses that the VAE does without, to see what they are good for",
    )
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def train(options: argparse.Namespace) -> None:
    if options.stage == "tokenizer" and options.steps is not None:
        raise LdmError(
            f"--steps {options.steps}; the tokenizer has no steps, it is learned whole: leave --steps out"
        )

    from ldm.train import processes
    from ldm.train.stages import STAGES, train_stage

    with processes.start():
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
            )
        if processes.rank() == 0:
            print(f"the model is in {options.out}; paint with: ldm generate PROMPT --model {options.out}")


def evaluate_options(commands: Commands) -> None:
    p = commands.add_parser(
        "evaluate",
        help="measure a model",
        description="Measure what a model can do: adherence, sharpness, understanding, diversity. "
        "Prints a table; sheets to look at go to a folder.",
    )
    p.set_defaults(command=evaluate)
    p.add_argument("--model", default="tiny", metavar="M", help="a name under weights/, or a folder")
    p.add_argument("--judge", default="judge", metavar="J", help="a name under weights/, or a folder")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    p.add_argument("--quick", action="store_true", help="a tenth of the pictures, and rougher figures")
    p.add_argument(
        "--out", type=Path, default=Path("outputs/evaluation"), metavar="DIR", help="where the sheets go"
    )
    p.add_argument(
        "--train-judge", action="store_true", help="train the judge instead, from nothing, into weights/judge"
    )


def evaluate(options: argparse.Namespace) -> None:
    from ldm.evaluate import figures, report, school
    from ldm.evaluate.bench import FULL, QUICK

    if options.train_judge:
        folder = Path("weights/judge")
        school.train_judge(folder, Path("runs/judge"))
        print(f"the judge is in {folder}")
        return
    started = time.monotonic()
    measured = report.evaluate(options.model, options.judge, options.out, QUICK if options.quick else FULL)
    print(figures.as_json(measured) if options.json else figures.table(measured))
    minutes = (time.monotonic() - started) / 60
    print(f"sheets are in {options.out.resolve()}; {minutes:.1f} minutes in all", file=sys.stderr)


def postcards_options(commands: Commands) -> None:
    p = commands.add_parser(
        "postcards", help="draw the captioned world", description="Draw the captioned world."
    )
    p.set_defaults(command=postcards)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--grid", type=Path, metavar="PNG", help="write a contact sheet here")
    what.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="write single pictures and their captions here, as `ldm train --data DIR` reads them",
    )
    p.add_argument("--count", type=int, default=100, metavar="N", help="how many single pictures (100)")
    p.add_argument("--size", type=int, default=128, metavar="N", help="pixels along each side of a postcard")


def postcards(options: argparse.Namespace) -> None:
    from ldm.postcards import contact_sheet, export

    if options.folder is not None:
        try:
            export(options.folder, options.count, options.size)
        except OSError as error:
            raise LdmError(
                f"cannot write to {options.folder}: {error.strerror}; give another folder"
            ) from error
        print(options.folder)
        return
    if options.grid.suffix.lower() != ".png":
        raise LdmError(f"--grid {options.grid}; pictures are written as .png: give such a name")
    save_image(contact_sheet(options.size), options.grid)


def width_and_height(text: str) -> tuple[int, int]:
    """ "192x128" to (192, 128)."""
    width, _, height = text.partition("x")
    return int(width), int(height)  # argparse turns a ValueError into its own message


def progress_bar(steps: Iterator[Step], total: int) -> Iterable[Step]:
    from tqdm import tqdm

    return tqdm(steps, total=total, unit="step", leave=False)


def output_path(out: Path | None, name: str, index: int, count: int) -> Path:
    """Where picture `index` of `count` goes: a free name in a folder, or the file asked for (numbered if many)."""
    if out is not None and out.suffix.lower() == ".png":
        return out if count == 1 else out.with_stem(f"{out.stem}-{index}")
    if out is not None and out.suffix.lower() in (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"):
        raise LdmError(f"--out {out}; pictures are written as .png: give such a name, or a folder")
    folder = out or Path("outputs")
    number = 1 + max((int(p.name[:5]) for p in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")), default=0)
    return folder / f"{number:05d}-{name}.png"


def save_image(image: Image, path: Path) -> None:
    from ldm.files import atomic_path

    try:
        with atomic_path(path) as temporary:
            image.save(temporary, format="PNG")
    except OSError as error:
        raise LdmError(f"cannot write {path}: {error.strerror or error}; give another place") from error
    print(path)
