"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from ldm.diffusion.samplers.table import ROWS, SPACING_LABELS
from ldm.errors import LdmError, shown

DEVICE = "cpu, cuda, cuda:1, mps (default: the fastest available)"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], help: str, description: str = ""
) -> argparse.ArgumentParser:
    """A command, which calls `run` with its options; the description in its own help is by default the short one.

    One of the options is `wrong_usage`, a function that ends the program with an error.
    """
    parser = commands.add_parser(name, help=help, description=description or f"{help[0].upper()}{help[1:]}.")
    parser.set_defaults(command=run, wrong_usage=parser.error)
    return parser


def add_model(parser: argparse.ArgumentParser, default: str | None = "tiny") -> None:
    what = "a name under weights/, a checkpoint file, or a folder (default: tiny)"
    parser.add_argument("--model", default=default, metavar="M", help=what)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """How to read model files that leave something open, or hold something twice. `loading` collects these."""
    files = parser.add_argument_group("how to read the model's files")
    config = "a config.json with sizes and settings, instead of detecting them"
    files.add_argument("--config", type=Path, metavar="JSON", help=config)
    weights = "which weights to use if a file has both (default: ema, the averaged ones)"
    files.add_argument("--weights", choices=("ema", "live"), help=weights)
    prediction = "what the U-Net predicts, if its file does not say"
    files.add_argument("--prediction", choices=("eps", "v"), help=prediction)
    vae = "use the VAE of this file or folder: for a checkpoint without one or with a broken one, or a tiny one (TAESD)"
    files.add_argument("--vae", metavar="FILE", help=vae)
    unet = (
        "use the U-Net of this file or folder: for one that was distilled from the model and published alone"
    )
    files.add_argument("--unet", metavar="FILE", help=unet)


def loading(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_loading`, as arguments of `ldm.load`."""
    return {name: getattr(options, name) for name in ("config", "weights", "prediction", "vae", "unet")}


def add_compile(parser: argparse.ArgumentParser, gain: str) -> None:
    parser.add_argument(
        "--compile", action="store_true", default=None, help=f"compile the U-Net (torch.compile): {gain}"
    )


def check_compiler(options: argparse.Namespace) -> None:
    """Raise `LdmError` if --compile is given without the C++ compiler that torch calls on a CPU."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    if options.compile and shutil.which(os.environ.get("CXX", usual)) is None:
        raise LdmError("--compile needs a C++ compiler; install g++, or leave out --compile")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How to sample; the model has defaults."""
    samplers = ", ".join(f"{row.name} ({row.description})" for row in ROWS)
    samplers += "; also with a spacing at the end, as in dpmpp_2m_karras (default: the model's)"
    parser.add_argument("--sampler", metavar="S", help=samplers)
    spacing = f"which noise levels to visit: {', '.join(SPACING_LABELS)} (default: the sampler's)"
    parser.add_argument("--spacing", metavar="S", help=spacing)
    least = max(row.min_default_steps for row in ROWS)
    more = [row.name for row in ROWS if row.min_default_steps]
    steps = f"sampling steps (default: the model's, but at least {least} with {' and '.join(more)}, which need more)"
    parser.add_argument("--steps", type=int, metavar="N", help=steps)
    guidance = "guidance scale, how closely to follow the prompt; 1: no guidance (default: the model's)"
    parser.add_argument("--guidance", type=float, metavar="G", help=guidance)
    seed = "seed of the noise, below 2**32 (default, or -1: a random one, which is printed)"
    parser.add_argument("--seed", type=int, metavar="N", help=seed)


def whole_number(text: str) -> int:
    """ "20" to 20."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)}; expected a whole number, such as 20") from None


def number(text: str) -> float:
    """ "7.5" to 7.5."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)}; expected a number, such as 7.5 or 1") from None


def width_and_height(text: str) -> tuple[int, int]:
    """ "192x128" to (192, 128), and "192", a square, to (192, 192)."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:[xX*\N{MULTIPLICATION SIGN}]\s*([0-9]{1,9})\s*)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}; expected pixels, such as 192x128, or 192 for a square")
    return int(match[1]), int(match[2] or match[1])


def noise_interval(text: str) -> tuple[float, float]:
    """ "0.28:5.42" to (0.28, 5.42)."""
    match = re.fullmatch(r"\s*([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*:\s*([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*", text)
    if match is None or not float(match[1]) < float(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; expected two noise levels LOW:HIGH, such as 0.28:5.42")
    return float(match[1]), float(match[2])


def times(text: str) -> float:
    """A factor: "2x", "1.5x" or "2"."""
    match = re.fullmatch(r"\s*([0-9]{1,2}(?:\.[0-9]{1,6})?)\s*[xX\N{MULTIPLICATION SIGN}]?\s*", text)
    if match is None or not float(match[1]) > 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a factor above 1, such as 2x")
    return float(match[1])
