"""`ldm info`, `ldm explore` and `ldm shapes`: what made a picture, and what goes on inside."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import add_loading, add_model, loading
from ldm.cli.output import check_folder, progress_bar, write_text
from ldm.errors import LdmError, printable

if TYPE_CHECKING:
    from ldm.cli.arguments import Commands
    from ldm.images.metadata import File, Record


def info_options(commands: Commands) -> None:
    p = commands.add_parser(
        "info",
        help="say what made a picture",
        description="Say what made a picture, from the record in its PNG.",
    )
    p.set_defaults(command=info)
    p.add_argument("picture", type=Path, metavar="PNG", help="a file that `ldm generate` wrote")


def info(options: argparse.Namespace) -> None:
    from ldm.images.metadata import read_record

    for name, value in rows(read_record(options.picture)):
        print(printable(f"{name:<11} {value}"))
    print(printable(f"{'again':<11} ldm generate --from {shlex.quote(str(options.picture))}"))


def rows(record: Record) -> Iterator[tuple[str, str]]:
    """The record as lines of a table: a name and a value each."""
    versions, group = record.versions, record.group
    yield "prompt", record.prompt
    yield "negative", record.negative
    if not record.weighting:
        yield "brackets", "taken as text (--no-weighting)"
    if record.long_prompt != "truncate":
        yield "too long", f"a prompt is read in pieces (--long-prompt {record.long_prompt})"
    yield "seed", str(record.seed)
    yield "sampler", f"{record.sampler}, {record.steps} steps, guidance {record.guidance}"
    yield "size", f"{record.width}x{record.height}"
    if group.count > 1:
        yield "batch", f"picture {group.index + 1} of {group.count} painted together"
    if record.init is not None:
        strength = "" if record.strength is None else f", strength {record.strength}"
        yield "init", f"{named(record.init)}{strength}"
    if record.mask is not None:
        kept = ", the rest kept to the pixel" if record.keep_pixels else ""
        yield "mask", f"{named(record.mask)}{kept}"
    chosen = [
        f"{word} {value}"
        for word, value in (("weights", record.weights), ("predicts", record.prediction))
        if value
    ]
    yield "model", ", ".join([record.model, *chosen])
    if record.config is not None:
        yield "config", named(record.config)
    for file in record.model_files:
        yield "", named(file)
    yield (
        "versions",
        f"ldm {versions.ldm}, torch {versions.torch}, Python {versions.python}, Pillow {versions.pillow}",
    )
    ways = (("traced", record.traced), ("compiled", record.compiled), ("in tiles", record.tile))
    how = [f"in {record.dtype} on {record.device}", f"{record.threads} threads"]
    yield "computed", ", ".join(how + [way for way, taken in ways if taken])


def named(file: File) -> str:
    return f"{file.path} (sha256 {file.sha256[:10]})"


def explore_options(commands: Commands) -> None:
    p = commands.add_parser(
        "explore",
        help="see how a picture comes about, in a browser",
        description="Write one HTML file to play with: the steps, the words, the guidance, the noise.",
    )
    p.set_defaults(command=explore)
    p.add_argument("prompt", help='what to paint, e.g. "a dog with glasses"')
    p.add_argument("--versus", metavar="T", help="another prompt to compare with (default: one word changed)")
    add_model(p)
    p.add_argument("--seed", type=int, default=42, metavar="N", help="which noise to start from (42)")
    p.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the model's)")
    p.add_argument(
        "--guidance", type=float, metavar="G", help="how much the prompt counts (default: the model's)"
    )
    p.add_argument(
        "-o", "--out", type=Path, default=Path("explore.html"), metavar="HTML", help="the file (explore.html)"
    )
    add_loading(p)


def explore(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise LdmError(f"--out {options.out}; the page is written as .html: give such a name")
    check_folder(options.out.parent, options.out)

    from ldm.cli.painting import load_model
    from ldm.lab.trace.explore import explore as write_page

    write_page(
        load_model(options.model, **loading(options)),
        options.prompt,
        options.out,
        versus=options.versus,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        progress=progress_bar,
    )
    print(printable(str(options.out)))


def shapes_options(commands: Commands) -> None:
    p = commands.add_parser(
        "shapes",
        help="list what goes in and out of every block",
        description="A table of what goes in and out of every block of the U-Net and the VAE.",
    )
    p.set_defaults(command=shapes)
    add_model(p)
    p.add_argument("--svg", type=Path, metavar="SVG", help="also draw it here")
    add_loading(p)


def shapes(options: argparse.Namespace) -> None:
    if options.svg is not None:
        check_folder(options.svg.parent, options.svg)

    from ldm.cli.painting import load_model
    from ldm.lab.trace.shapes import shapes_svg, shapes_table

    model = load_model(options.model, **loading(options))
    print(shapes_table(model), end="")
    if options.svg is not None:
        write_text(options.svg, shapes_svg(model))
