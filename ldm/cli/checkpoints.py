"""`ldm inspect`, `ldm convert`, `ldm export` and `ldm verify`: checkpoints, ours and other people's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ldm.cli.arguments import DEVICE, Commands, add_command, add_loading, loading
from ldm.cli.output import check_folder, print_path, tell
from ldm.errors import LdmError, printable
from ldm.files.read_write import writable

MOST_LINES = 20  # Stable Diffusion 2's unused layer of the text encoder fits, by name
MODEL = "a name under weights/, a checkpoint file, or a folder"


def inspect_options(commands: Commands) -> None:
    about = (
        "Show what is in a checkpoint and whether it can be loaded. None of its code is run. What shapes do not tell "
        "is taken from marks and metadata in the file, the JSON of a diffusers folder, a .yaml beside the file, or its "
        "name; assumptions are listed."
    )
    p = add_command(commands, "inspect", inspect, "show what is in a checkpoint", about)
    p.add_argument("model", metavar="FILE-OR-FOLDER", help=MODEL)
    p.add_argument("--no-hash", action="store_true", help="read headers only: no sha256, no search for NaN")


def inspect(options: argparse.Namespace) -> None:
    from ldm.checkpoints.finding import find
    from ldm.checkpoints.inspect import inspect as look

    report = look(find(options.model), hash=not options.no_hash)
    for line in report.text().split("\n"):
        print(printable(line))


def convert_options(commands: Commands) -> None:
    about = "Write a checkpoint as a folder: config.json, tokenizer/, and one .safetensors file per network."
    p = add_command(commands, "convert", export, "write a checkpoint in this project's layout", about)
    p.add_argument("model", metavar="FILE", help=MODEL)
    p.add_argument("out", metavar="FOLDER", type=Path, help="such as weights/sd15, which makes its name sd15")
    p.set_defaults(to="ours")
    add_writing(p)


def export_options(commands: Commands) -> None:
    about = "Write a model as diffusers or the original code (CompVis) reads it, or a LoRA as kohya's programs do."
    p = add_command(commands, "export", export, "write a model in the layout of other programs", about)
    p.add_argument("model", metavar="MODEL", help=f"{MODEL}; for kohya a LoRA")
    p.add_argument(
        "out", metavar="OUT", type=Path, help="a folder; for compvis and kohya a .safetensors file"
    )
    p.add_argument("--to", required=True, choices=("diffusers", "compvis", "kohya"), help="whose layout")
    add_writing(p)


def add_writing(parser: argparse.ArgumentParser) -> None:
    """The options that `convert` and `export` share."""
    parser.add_argument("--force", action="store_true", help="replace what is there")
    dtypes = ("float32", "bfloat16", "float16")
    parser.add_argument("--dtype", choices=dtypes, help="the dtype to store (default: unchanged)")
    add_loading(parser)


def export(options: argparse.Namespace) -> None:
    """Write a model in the layout `options.to`; say which tensors are left out."""
    from ldm.backend.choice import read_dtype
    from ldm.checkpoints.finding import find
    from ldm.checkpoints.write import export as write
    from ldm.loading import read_config

    check_folder(options.out.parent, options.out)
    if options.to == "kohya":
        return export_a_lora(options)
    source, how = find(options.model), loading(options)
    how["config"] = read_config(how["config"])
    how |= {name: how[name] and find(how[name]) for name in ("vae", "unet")}
    how["dtype"] = options.dtype and read_dtype(options.dtype)
    with writable(options.out):
        dropped = write(source, options.out, options.to, force=options.force, **how)
    for line in brief(dropped):
        tell(f"not kept: {line}")
    print_path(options.out)


def export_a_lora(options: argparse.Namespace) -> None:
    from ldm.backend.choice import read_dtype
    from ldm.checkpoints.lora_write import export_lora

    if given := [name for name, value in loading(options).items() if value is not None]:
        raise LdmError(f"--{given[0]} with a LoRA, which has none; leave it out")
    dtype = options.dtype and read_dtype(options.dtype)
    with writable(options.out):
        dropped = export_lora(Path(options.model), options.out, dtype, options.force)
    for line in dropped:
        tell(f"not kept: {line}")
    print_path(options.out)


def brief(names: tuple[str, ...]) -> Iterator[str]:
    """The names; of a whole network, such as the averaged weights, only how many there are."""
    networks: dict[str, list[str]] = {}
    for name in names:
        networks.setdefault(name.split(".")[0], []).append(name)
    for network, inside in networks.items():
        yield from inside if len(inside) <= MOST_LINES else [f"{network}.* ({len(inside)} tensors)"]


def verify_options(commands: Commands) -> None:
    about = (
        "Compute published figures with a model: got, expected, pass or FAIL. The exit code is 0 if the model agrees "
        "with a release, 1 if it agrees with none."
    )
    p = add_command(commands, "verify", verify, "compare a model with published figures", about)
    p.add_argument("model", metavar="MODEL", help=MODEL)
    p.add_argument("--release", metavar="R", help="compare with this release only, such as v1-4")
    p.add_argument("--files", type=Path, metavar="DIR", help="the publishers' files, which some figures need")
    p.add_argument("--device", metavar="D", help=DEVICE)
    add_loading(p)


def verify(options: argparse.Namespace) -> None:
    if options.files is not None and not options.files.is_dir():
        raise LdmError(f"--files {options.files}; expected a folder with the publishers' files, or none")

    import torch

    from ldm.checkpoints.finding import find
    from ldm.checkpoints.tiny_file import is_tiny
    from ldm.cli.generation import load_model
    from ldm.lab.verify.compare import agrees, comparison_table
    from ldm.lab.verify.compare import verify as compare

    if is_tiny(find(options.model)):
        return verify_a_tiny_vae(options)
    # TF32 multiplies with 10-bit mantissas; the figures were computed with 23 bits.
    torch.backends.cudnn.allow_tf32 = False
    model = load_model(options.model, "float32", options.device, **loading(options))
    comparisons = compare(model, options.release, options.files)
    print(comparison_table(comparisons))
    if not agrees(comparisons, options.release):
        of = "any release that was compared" if options.release is None else options.release
        raise LdmError(f"{options.model} does not agree with {of}; the table shows what was got and expected")


def verify_a_tiny_vae(options: argparse.Namespace) -> None:
    from ldm.lab.verify.compare import agrees, comparison_table
    from ldm.lab.verify.tiny import SQUARE, compare_tiny
    from ldm.loading import load_vae

    if options.release is not None:
        raise LdmError(f"--release {options.release} with a tiny VAE, which is of none; leave it out")
    comparisons = compare_tiny(load_vae(options.model, "float32", options.device), options.files)
    print(comparison_table(comparisons))
    if not agrees(comparisons, SQUARE.releases[0]):
        raise LdmError(f"{options.model} is no working TAESD, or has no encoder; the table shows which")
