"""`ldm postcards`: draw the captioned world that the tiny model learns."""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm.cli.arguments import Commands, add_command
from ldm.cli.output import save_image
from ldm.errors import LdmError


def postcards_options(commands: Commands) -> None:
    p = add_command(commands, "postcards", postcards, "draw the captioned world")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--grid", type=Path, metavar="PNG", help="write a contact sheet here")
    folder = "write single images and their captions here, as `ldm train --data DIR` reads them"
    what.add_argument("--folder", type=Path, metavar="DIR", help=folder)
    p.add_argument("--count", type=int, default=100, metavar="N", help="number of single images (100)")
    p.add_argument("--size", type=int, default=128, metavar="N", help="width and height in pixels (128)")


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
        raise LdmError(f"--grid {options.grid}; images are written as .png: give such a name")
    save_image(contact_sheet(options.size), options.grid)
