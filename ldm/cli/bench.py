"""`ldm bench`: how fast everything is on this machine. (`make bench` alternates with diffusers.)"""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm.cli.arguments import Commands, add_command
from ldm.cli.output import check_folder
from ldm.errors import LdmError


def bench_options(commands: Commands) -> None:
    about = (
        "Measure speed and memory with random weights of Stable Diffusion 1's sizes, each case in its own "
        "processes, and print a table. It takes long, and 4 GB in the temporary folder (TMPDIR)."
    )
    p = add_command(commands, "bench", bench, "measure speed and memory", about)
    p.add_argument("--quick", action="store_true", help="a narrow model, one process per case: a few minutes")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement to this file")


def bench(options: argparse.Namespace) -> None:
    if options.json is not None:
        check_folder(options.json.parent, options.json)  # before an hour of measuring
        if options.json.is_dir():
            raise LdmError(f"--json {options.json} is a folder; give a file name")

    from ldm.lab.bench import run

    print(run.bench(options.quick, options.json), end="")
