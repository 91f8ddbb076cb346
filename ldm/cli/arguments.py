"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm.diffusion.samplers.table import KARRAS, ROWS
from ldm.errors import LdmError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]


def add_model(parser: argparse.ArgumentParser, default: str | None = "tiny") -> None:
    parser.add_argument(
        "--model",
        default=default,
        metavar="M",
        help="a name under weights/, a checkpoint's file, or a folder (default: tiny)",
    )


def add_loading(parser: argparse.ArgumentParser) -> None:
    """What the files of a model may leave open, or have twice. `loading` reads it."""
    files = parser.add_argument_group("how to read the model's files")
    files.add_argument(
        "--config",
        type=Path,
        metavar="JSON",
        help="sizes and settings in the form of config.json, in place of those that were detected",
    )
    files.add_argument(
        "--weights", choices=("ema", "live"), help="which, where a file has both (default: ema, the averaged)"
    )
    files.add_argument(
        "--prediction", choices=("eps", "v"), help="what the U-Net predicts, where its file does not tell"
    )
    files.add_argument(
        "--vae",
        metavar="FILE",
        help="take the VAE of this file or folder: for a checkpoint without one, or with a broken one",
    )


def loading(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_loading` asked for, as `ldm.load` takes it."""
    return {name: getattr(options, name) for name in ("config", "weights", "prediction", "vae")}


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps (default: the fastest here)")


def add_compile(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--compile", action="store_true", default=None, help=f"compile the U-Net (torch.compile): {what}"
    )


def has_compiler() -> bool:
    """Whether the C++ compiler is there that torch calls on a CPU."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", usual)) is not None


def check_compiler(options: argparse.Namespace) -> None:
    """Raises `LdmError` if --compile is asked for, and there is no compiler."""
    if options.compile and not has_compiler():
        raise LdmError(
            "--compile needs a C++ compiler, and there is none; install g++, or leave --compile out"
        )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How to sample. What is not given is up to the model."""
    more = [row for row in ROWS if row.usual_steps]
    parser.add_argument(
        "--sampler",
        metavar="S",
        help=f"{', '.join(f'{row.name} ({row.description})' for row in ROWS)}; "
        f"from {KARRAS[0].name.removesuffix('_karras')} on also with _karras (default: the model's)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"sampling steps (default: the model's, but at least {more[0].usual_steps} with "
        f"{' and '.join(row.name for row in more)}, which need more than others)",
    )
    parser.add_argument(
        "--guidance", type=float, metavar="G", help="how much the prompt counts; 1: no guidance"
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="which noise to start from, below 2**32 (default, and -1: one drawn at random, and printed)",
    )


def add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size", type=width_and_height, metavar="WxH", help="pixels, e.g. 192x128 (default: the model's)"
    )


def add_many(parser: argparse.ArgumentParser) -> None:
    many = parser.add_argument_group("many prompts")
    many.add_argument(
        "--prompts",
        type=Path,
        metavar="TXT",
        help="paint each line of this file (--batch pictures of each; --seed counts on from picture to picture, "
        "from 0 if not given) into the folder --out. The same command again goes on where it was interrupted; "
        "torchrun --nproc-per-node N -m ldm generate ... shares the list between N processes",
    )


def width_and_height(text: str) -> tuple[int, int]:
    """ "192x128" to (192, 128), and "192", a square, to (192, 192)."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:[xX*\N{MULTIPLICATION SIGN}]\s*([0-9]{1,9})\s*)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}; expected pixels, such as 192x128, or 192 for a square")
    return int(match[1]), int(match[2] or match[1])
