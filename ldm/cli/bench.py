"""`ldm bench`: how fast everything is on this machine. (`make bench` measures diffusers in turn with it.)"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.output import check_folder
from ldm.errors import LdmError

if TYPE_CHECKING:
    from ldm.cli.arguments import Commands


def bench_options(commands: Commands) -> None:
    p = commands.add_parser(
        "bench",
        help="measure speed and memory",
        description="Measure speed and memory with random weights of Stable Diffusion 1's sizes, each case in fresh "
        "processes. Prints a table. Takes long, and 4 GB in the temporary folder (TMPDIR).",
    )
    p.set_defaults(command=bench)
    p.add_argument("--quick", action="store_true", help="a narrow model, one process each: a few minutes")
    p.add_argument("--json", type=Path, metavar="FILE", help="where to keep all that was measured")


def bench(options: argparse.Namespace) -> None:
    if options.json is not None:
        check_folder(options.json.parent, options.json)  # not after an hour of measuring
        if options.json.is_dir():
            raise LdmError(f"--json {options.json} is a folder; give a file's name")

    from ldm.lab.bench import run

    print(run.bench(options.quick, options.json), end="")
