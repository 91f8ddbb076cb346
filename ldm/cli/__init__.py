"""The `ldm` command: subcommands only, which parse, call and print."""

from ldm.cli.program import main, make_parser

__all__ = ["main", "make_parser"]
