"""`ldm museum`: the usual mistakes of porting Stable Diffusion, and what each of them does to an image."""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm.cli.arguments import Commands, add_command, add_model
from ldm.cli.output import check_folder, save_image
from ldm.errors import LdmError, printable

FOLDER = Path("outputs/museum")


def museum_options(commands: Commands) -> None:
    about = (
        "Without a number: list the mistakes. With one: generate the same image with and without the mistake, say "
        "where the numbers begin to differ, and write a strip of both and their difference. Nothing that is installed "
        "changes."
    )
    p = add_command(commands, "museum", museum, "see what the usual mistakes do to an image", about)
    p.add_argument("number", nargs="?", metavar="NUMBER", help="which mistake, such as 5a")
    add_model(p)
    where = f"a folder for the strip and for what later calls use again ({FOLDER.as_posix()})"
    p.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help=where)


def museum(options: argparse.Namespace) -> None:
    from ldm.lab.museum.rooms import ROOMS, find_mistake

    if options.number is None:
        for room in ROOMS:
            print(f"\n{room.__doc__}")
            for mistake in room.MISTAKES:
                print(f"  {mistake.number:<4} {mistake.name}")
        print("\n`ldm museum NUMBER` shows one; the site shows all")
        return
    mistake = find_mistake(options.number)
    check_folder(options.out, options.out)

    from ldm.checkpoints.finding import find
    from ldm.lab.museum.painting import show
    from ldm.lab.museum.words import told

    model = find(options.model).resolve()
    if not (model / "config.json").is_file():
        raise LdmError(f"{model} is not in this project's own layout; `ldm convert` writes one that is")
    exhibit, strip = show(mistake, model, options.out.resolve() / "kept")
    for line in told(mistake, exhibit):
        print(printable(line))
    save_image(strip, options.out / f"{mistake.number}.png")
