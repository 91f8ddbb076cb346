"""`ldm demo`, `ldm evaluate` and `ldm bench`: what a model can do, how well, and how fast."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ldm.cli.arguments import Commands, add_command, add_compile, add_model, check_compiler
from ldm.cli.output import check_folder, progress_bar, save_image
from ldm.errors import LdmError


def demo_options(commands: Commands) -> None:
    p = add_command(commands, "demo", demo, "generate images of six prompts, English and French")
    add_model(p)
    p.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed of each prompt (0)")
    p.add_argument("--batch", type=int, default=4, metavar="N", help="number of images per prompt (4)")
    p.add_argument("--out", type=Path, default=Path("outputs"), metavar="DIR", help="their folder (outputs)")
    p.add_argument(
        "--sheet", type=Path, metavar="PNG", help="where to write the sheet of all (default: DIR/demo.png)"
    )


def demo(options: argparse.Namespace) -> None:
    sheet: Path = options.sheet or options.out / "demo.png"
    check_folder(options.out, options.out)
    check_folder(sheet.parent, sheet)

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
    save_image(titled_rows(DEMO_PROMPTS, rows), sheet)
    count, seconds = sum(map(len, rows)), time.monotonic() - started
    print(f"{count} images and a sheet of them in {options.out.resolve()}, {seconds:.1f} s in all")


def evaluate_options(commands: Commands) -> None:
    about = (
        "Measure adherence, guidance, attention, sharpness, understanding and diversity. "
        "Prints a table and writes sheets of images."
    )
    p = add_command(commands, "evaluate", evaluate, "measure the quality of a model", about)
    add_model(p)
    p.add_argument("--judge", default="judge", metavar="J", help="a name under weights/, or a folder (judge)")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    p.add_argument("--quick", action="store_true", help="a tenth of the images, rougher figures")
    out = Path("outputs/evaluation")
    p.add_argument(
        "--out", type=Path, default=out, metavar="DIR", help="the sheets' folder (outputs/evaluation)"
    )
    add_compile(p, "images take five sixths of the time, after a minute or two")
    p.add_argument("--train-judge", action="store_true", help="instead, train the judge into weights/judge")
    heads = (
        "instead, choose the attention heads whose maps are shown, and write them to the model's config.json"
    )
    p.add_argument("--choose-heads", action="store_true", help=heads)


def evaluate(options: argparse.Namespace) -> None:
    check_compiler(options)

    from ldm.lab.evaluate import report
    from ldm.lab.evaluate.judge_training import train_judge
    from ldm.lab.evaluate.metrics import metrics_json, metrics_table
    from ldm.lab.evaluate.setup import FULL, QUICK

    if options.train_judge:
        folder = Path("weights/judge")
        train_judge(folder, Path("runs/judge"))
        print(f"the judge is in {folder}")
        return
    if options.choose_heads:
        from ldm.lab.evaluate.attention_maps import store_heads

        chosen, ranking = store_heads(options.model)
        for head, ratio in ranking:
            print(
                f"{ratio:6.2f} times chance  {head.layer}, head {head.head}{'  *' if head in chosen else ''}"
            )
        print(f"the maps of {options.model} are now the mean of the {len(chosen)} heads marked *")
        return
    started = time.monotonic()
    counts = QUICK if options.quick else FULL
    measured = report.evaluate(options.model, options.judge, options.out, counts, bool(options.compile))
    print(metrics_json(measured) if options.json else metrics_table(measured))
    minutes = (time.monotonic() - started) / 60
    print(f"sheets are in {options.out.resolve()}; {minutes:.1f} minutes in all", file=sys.stderr)


def bench_options(commands: Commands) -> None:
    about = (
        "Measure speed and memory with random weights of Stable Diffusion 1's sizes, each case in its own "
        "processes, and print a table. It takes long, and 4 GB in the temporary folder (TMPDIR)."
    )
    p = add_command(commands, "bench", bench, "measure speed and memory", about)
    p.add_argument("--quick", action="store_true", help="a narrow model, one process per case: a few minutes")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement to this file")
    p.add_argument(
        "--layers", action="store_true", help="only one step of the U-Net: what each kind of layer takes"
    )
    p.add_argument(
        "--choices",
        action="store_true",
        help="only try the optimisations that may lose, and say which are used",
    )


def bench(options: argparse.Namespace) -> None:
    if options.choices:
        from ldm.backend.accelerate import TRIALS
        from ldm.backend.trial import report

        print(report(TRIALS), end="")
        return
    if options.layers and options.json is not None:
        raise LdmError("--layers prints its tables and keeps nothing; leave out --json")
    if options.json is not None:
        check_folder(options.json.parent, options.json)  # before an hour of measuring
        if options.json.is_dir():
            raise LdmError(f"--json {options.json} is a folder; give a file name")

    from ldm.lab.bench import run

    print(
        run.where_time_goes(options.quick) if options.layers else run.bench(options.quick, options.json),
        end="",
    )
