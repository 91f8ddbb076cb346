"""`ldm info`, `explore`, `shapes`, `playground`: how an image was made, and what happens inside the model."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import Commands, add_command, add_loading, add_model, loading
from ldm.cli.output import check_folder, print_path, progress_bar, write_text
from ldm.errors import LdmError, printable

if TYPE_CHECKING:
    from ldm.images.metadata import File, Record, UsedControl, UsedEmbedding, UsedLora


def info_options(commands: Commands) -> None:
    p = add_command(
        commands, "info", info, "show how an image was made", "Show the record in an image's PNG."
    )
    p.add_argument("source", type=Path, metavar="PNG", help="a file that `ldm generate` wrote")


def info(options: argparse.Namespace) -> None:
    from ldm.images.metadata import read_record

    for name, value in rows(read_record(options.source)):
        print(printable(f"{name:<11} {value}"))
    print(printable(f"{'again':<11} ldm generate --from {shlex.quote(str(options.source))}"))


def rows(record: Record) -> Iterator[tuple[str, str]]:
    """The record as rows of a table: a name and a value each."""
    versions, group = record.versions, record.group
    yield "prompt", record.prompt
    if record.negative:
        yield "negative", record.negative
    if not record.weighting:
        yield "brackets", "read as text (--no-weighting)"
    if record.long_prompt != "truncate":
        yield "long prompt", f"read in chunks (--long-prompt {record.long_prompt})"
    if record.clip_skip != 1:
        yield "clip skip", str(record.clip_skip)
    yield "seed", str(record.seed)
    spacing = "" if record.spacing is None else f", {record.spacing}"
    yield "sampler", f"{record.sampler}{spacing}, {record.steps} steps, guidance {record.guidance}"
    yield "size", f"{record.width}x{record.height}"
    pairs = (
        ("original size", record.original_size),
        ("crop", record.crop),
        ("target size", record.target_size),
    )
    yield from ((name, "x".join(map(str, pair))) for name, pair in pairs if pair is not None)
    if record.aesthetic_score is not None:
        yield "aesthetic", f"score {record.aesthetic_score:g}"
    if record.empty_negative is not None:
        yield "no negative", f"{record.empty_negative} (--empty-negative {record.empty_negative})"
    if group.count > 1:
        yield "group", f"image {group.index + 1} of {group.count} generated together"
    if record.init is not None:
        strength = "" if record.strength is None else f", strength {record.strength}"
        yield "init", f"{named(record.init)}{strength}"
    if record.mask is not None:
        kept = ", other pixels kept exactly" if record.keep_pixels else ""
        yield "mask", f"{named(record.mask)}{kept}"
    if record.hires is not None:
        yield "hires", f"{record.hires:g}x, by {record.hires_mode}, strength {record.hires_strength}"
    if record.guidance_interval is not None:
        yield "guided", "from sigma {:g} to {:g}".format(*record.guidance_interval)
    if record.reuse is not None:
        yield "U-Net", f"whole once in {record.reuse} evaluations"
    if record.window is not None:
        yield "windows", f"of {record.window} pixels"
    chosen = (
        ("weights", record.weights),
        ("predicts", record.prediction),
        ("VAE of", record.vae),
        ("U-Net of", record.unet),
    )
    yield "model", ", ".join([record.model, *(f"{word} {value}" for word, value in chosen if value)])
    for file in (*record.model_files, *record.vae_files, *record.unet_files):
        yield "", named(file)
    for lora in record.loras:
        yield "LoRA", f"{named(lora)}, strength {lora.strength:g}"
    for control in record.controls:
        span = f"from {control.start:g} to {control.end:g} of the steps{', guess mode' * control.guess}"
        yield "ControlNet", f"{named(control)}, strength {control.strength:g}, {span}"
        yield (
            "",
            f"{named(control.image)}{'' if control.prepare is None else f', prepared: {control.prepare}'}",
        )
    for embedding in record.embeddings:
        yield "embedding", f"{named(embedding)}, as {' or '.join(embedding.words)}"
    if record.refiner is not None:
        yield "refiner", f"{record.refiner.model}, from {record.refiner.switch_at:g} of the sampling on"
    if record.config is not None:
        yield "config", named(record.config)
    program = f"ldm {versions.ldm}, torch {versions.torch}"
    yield "versions", f"{program}, Python {versions.python}, Pillow {versions.pillow}"
    how = (
        ("traced", record.traced),
        ("compiled", record.compiled),
        ("in tiles", record.tile),
        ("in 8 bits", record.int8),
    )
    used = [f"in {record.dtype} on {record.device}", f"{record.threads} thread{'s' * (record.threads != 1)}"]
    yield "computed", ", ".join(used + [word for word, applies in how if applies])


def named(file: File | UsedLora | UsedControl | UsedEmbedding) -> str:
    return f"{file.path} (sha256 {file.sha256[:10]})"


def explore_options(commands: Commands) -> None:
    about = "Write one HTML page to play with: the steps, the words, the guidance, the noise."
    p = add_command(commands, "explore", explore, "see in a browser how an image forms", about)
    p.add_argument("prompt", help='what to generate, e.g. "a dog with glasses"')
    p.add_argument("--versus", metavar="T", help="a prompt to compare with (default: one word changed)")
    add_model(p)
    p.add_argument("--seed", type=int, default=42, metavar="N", help="which noise to start from (42)")
    p.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the model's)")
    p.add_argument("--guidance", type=float, metavar="G", help="guidance scale (default: the model's)")
    out = Path("explore.html")
    p.add_argument("-o", "--out", type=Path, default=out, metavar="HTML", help=f"the page to write ({out})")
    add_loading(p)


def explore(options: argparse.Namespace) -> None:
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise LdmError(f"--out {options.out}; the page is written as .html: give such a name")
    check_folder(options.out.parent, options.out)

    from ldm.cli.generation import load_model
    from ldm.lab.trace.explore import explore as write_page

    model = load_model(options.model, **loading(options))
    given = {name: getattr(options, name) for name in ("versus", "seed", "steps", "guidance")}
    write_page(model, options.prompt, options.out, progress=progress_bar, **given)
    print_path(options.out)


def shapes_options(commands: Commands) -> None:
    about = "Print a table of the input and output shapes of every block of the U-Net and the VAE."
    p = add_command(commands, "shapes", shapes, "list the input and output shapes of every block", about)
    add_model(p)
    p.add_argument("--svg", type=Path, metavar="SVG", help="also draw them in this file")
    add_loading(p)


def shapes(options: argparse.Namespace) -> None:
    if options.svg is not None:
        check_folder(options.svg.parent, options.svg)

    from ldm.cli.generation import load_model
    from ldm.lab.trace.shapes import shapes_svg, shapes_table

    model = load_model(options.model, **loading(options))
    print(shapes_table(model), end="")
    if options.svg is not None:
        write_text(options.svg, shapes_svg(model))


def playground_options(commands: Commands) -> None:
    about = (
        "Write a folder with a web page in which the model runs: type a prompt, and see it become an image."
    )
    p = add_command(commands, "playground", playground, "write a web page that runs the model", about)
    add_model(p)
    help_ = "the package that `npm pack onnxruntime-web@1.30.0` fetches"
    p.add_argument("--runtime", type=Path, required=True, metavar="TGZ", help=help_)
    out = Path("playground")
    p.add_argument("-o", "--out", type=Path, default=out, metavar="DIR", help=f"the folder to write ({out})")


def playground(options: argparse.Namespace) -> None:
    check_folder(options.out.parent, options.out)

    from ldm.lab.playground.build import write_playground
    from ldm.lab.playground.runtime import read_runtime

    write_playground(options.model, read_runtime(options.runtime), options.out)
    print_path(options.out / "index.html")
