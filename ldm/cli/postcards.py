"""`ldm postcards`: draw the captioned world that the tiny model learns."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.output import save_image
from ldm.errors import LdmError

if TYPE_CHECKING:
    from ldm.cli.arguments import Commands


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
