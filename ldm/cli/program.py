"""The `ldm` program: which commands there are, and how each of them ends."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ldm.backend.allocator import keep_heap
from ldm.cli.arguments import number, whole_number
from ldm.cli.checkpoints import convert_options, export_options, inspect_options, verify_options
from ldm.cli.exercise import exercise_options
from ldm.cli.generate import generate_options
from ldm.cli.look import explore_options, info_options, playground_options, shapes_options
from ldm.cli.measure import bench_options, demo_options, evaluate_options
from ldm.cli.museum import museum_options
from ldm.cli.output import tell
from ldm.cli.train import postcards_options, train_options
from ldm.errors import LdmError, printable
from ldm.files.paths import expanded
from ldm.notes import hearing

# In the order of `ldm --help`. Everything but parsing is imported by the command that needs it.
COMMANDS = (
    *(generate_options, info_options, explore_options, shapes_options, playground_options),
    *(exercise_options, museum_options),
    *(inspect_options, convert_options, export_options, verify_options),
    *(demo_options, train_options, evaluate_options, bench_options, postcards_options),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failure, 130 after Ctrl-C, 141 if the reading end of a pipe
    closes. (argparse ends the program with 2 for wrong usage.)"""
    open_closed()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path need not be valid text
    warnings.showwarning = lambda message, *_, **__: tell(
        str(message)
    )  # one line, without a place in the code
    given = sys.argv[1:] if arguments is None else arguments
    options, unknown = make_parser().parse_known_args(given or ["--help"])
    if unknown:
        options.wrong_usage(f"unrecognized arguments: {' '.join(unknown)}")
    keep_heap()
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        with hearing(tell):  # what the package chose by itself or cleaned up
            command(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # Python flushes once more when it exits, which would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as for a program that SIGPIPE ends
    except KeyboardInterrupt as stop:
        tell(f"ldm: {str(stop) or 'interrupted'}")
        return 130
    except Exception as error:
        if options.debug:
            for line in traceback.format_exc().splitlines():
                print(printable(line), file=sys.stderr)
        tell(f"ldm: {failure(error)}")
        return 1


def open_closed() -> None:
    """Send output to the null device if the program was started with closed streams, as `ldm ... >&-` does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the program ends


def failure(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, LdmError):
        return str(error)
    if isinstance(error, OSError):  # where no command expected it
        place = f" ({error.filename})" if error.filename else ""
        return f"the system refused: {error.strerror or error}{place}; --debug shows where"
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", str(error)):
        return f"not enough memory ({error}); use smaller or fewer images, or another device"
    return (
        f"a bug in ldm: {type(error).__name__}: {error}; run it again with --debug and report what it prints"
    )


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines that cannot drive a terminal: they repeat arguments, perhaps file names."""

    def error(self, message: str) -> NoReturn:
        usage = f"usage: {self.prog} ...; `{self.prog} --help` lists what it takes"
        self.exit(2, f"{usage}\n{self.prog}: error: {printable(message)}\n")


def make_parser() -> argparse.ArgumentParser:
    """The command-line parser. Each command's options stand in the function before the command."""
    parser: argparse.ArgumentParser = Parser(prog="ldm", description="Latent diffusion you can read.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_options in COMMANDS:
        add_options(commands)
    for one, default in ((parser, False), *((c, argparse.SUPPRESS) for c in commands.choices.values())):
        one.register("type", Path, expanded)  # `~`, which a shell does not expand after `--out=`
        one.register("type", int, whole_number)
        one.register("type", float, number)
        # SUPPRESS, so that a command does not undo `ldm --debug COMMAND`.
        one.add_argument(
            "--debug", action="store_true", default=default, help="show where a failure happened"
        )
    return parser
