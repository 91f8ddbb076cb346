"""`ldm demo` and `ldm evaluate`: what a model can do, to look at and in numbers."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import add_compile, add_model, check_compiler
from ldm.cli.output import progress_bar, save_image

if TYPE_CHECKING:
    from ldm.cli.arguments import Commands


def demo_options(commands: Commands) -> None:
    p = commands.add_parser(
        "demo", help="paint six prompts", description="Paint six prompts, English and French."
    )
    p.set_defaults(command=demo)
    add_model(p)
    p.add_argument("--seed", type=int, default=0, metavar="N", help="the noise that each prompt starts from")
    p.add_argument("--batch", type=int, default=4, metavar="N", help="how many pictures of each prompt (4)")
    p.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="where the pictures go")
    p.add_argument(
        "--sheet", type=Path, metavar="PNG", help="where the sheet of all goes (default: DIR/demo.png)"
    )


def demo(options: argparse.Namespace) -> None:
    import ldm
    from ldm.diffusion.noise import pick_seed
    from ldm.lab.evaluate.sheets import titled_rows
    from ldm.postcards import DEMO_PROMPTS

    started, options.seed = time.monotonic(), pick_seed(options.seed, options.batch)
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


def evaluate_options(commands: Commands) -> None:
    p = commands.add_parser(
        "evaluate",
        help="measure a model",
        description="Measure what a model can do: adherence, sharpness, understanding, diversity. "
        "Prints a table; sheets to look at go to a folder.",
    )
    p.set_defaults(command=evaluate)
    add_model(p)
    p.add_argument("--judge", default="judge", metavar="J", help="a name under weights/, or a folder")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    p.add_argument("--quick", action="store_true", help="a tenth of the pictures, and rougher figures")
    p.add_argument(
        "--out", type=Path, default=Path("outputs/evaluation"), metavar="DIR", help="where the sheets go"
    )
    add_compile(p, "pictures are painted in five sixths of the time, after a minute or two")
    p.add_argument(
        "--train-judge", action="store_true", help="train the judge instead, from nothing, into weights/judge"
    )


def evaluate(options: argparse.Namespace) -> None:
    check_compiler(options)

    from ldm.lab.evaluate import figures, report
    from ldm.lab.evaluate import judge_training as school
    from ldm.lab.evaluate.bench import FULL, QUICK

    if options.train_judge:
        folder = Path("weights/judge")
        school.train_judge(folder, Path("runs/judge"))
        print(f"the judge is in {folder}")
        return
    started = time.monotonic()
    counts = QUICK if options.quick else FULL
    measured = report.evaluate(options.model, options.judge, options.out, counts, bool(options.compile))
    print(figures.as_json(measured) if options.json else figures.table(measured))
    minutes = (time.monotonic() - started) / 60
    print(f"sheets are in {options.out.resolve()}; {minutes:.1f} minutes in all", file=sys.stderr)
