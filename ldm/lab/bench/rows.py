"""What is measured, and what the goals are: the table, before anything stands in it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One line of the table: a number that a case finds, and what is hoped for.

    A goal of kind "ratio" is in units of the reference's number; "value" is the number itself.
    """

    what: str
    case: str
    number: str
    unit: str
    goal: float | None = None
    stretch: float | None = None
    kind: Literal["ratio", "value"] = "ratio"
    more_is_better: bool = False


def reached(row: Row, value: float | None) -> str:
    """What a measured ratio or value is worth: "stretch", "goal", "no", or "" where there is none, or no goal."""
    if value is None or row.goal is None:
        return ""
    sign = -1 if row.more_is_better else 1
    if row.stretch is not None and sign * value <= sign * row.stretch:
        return "stretch"
    return "goal" if sign * value <= sign * row.goal else "no"


# Goals set for two cores of a CPU with AMX, at 512 x 512 pixels.
CPU_ROWS = (
    Row("U-Net step with guidance, bfloat16", "unet-bfloat16", "seconds", "s", 0.75, 0.68),
    Row("U-Net step with guidance, float32", "unet-float32", "seconds", "s", 0.95, 0.88),
    Row("VAE decode, bfloat16", "decode-bfloat16", "seconds", "s", 0.35, 0.30),
    Row("VAE decode, float32", "decode-float32", "seconds", "s", 0.85, 0.77),
    Row("VAE encode, bfloat16", "encode-bfloat16", "seconds", "s", 0.40, 0.28),
    Row("20 steps of DDIM, end to end, bfloat16", "paint-bfloat16", "seconds", "s", 0.70, 0.60),
    Row("20 steps of DDIM, end to end, float32", "paint-float32", "seconds", "s", 0.95, 0.88),
    Row("load float32 from a warm file: to the object", "load", "object", "s", 0.5, 0.25),
    Row("load float32 from a warm file: to the end of the first step", "load", "step", "s", 0.5, 0.25),
    Row("the same, ours in its default, bfloat16: to the object", "load-default", "object", "s", 0.5, 0.25),
    Row("and to the end of the first step", "load-default", "step", "s", 0.5, 0.25),
    Row("peak anonymous memory, load and paint, bfloat16", "paint-bfloat16", "memory", "MiB", 0.9, 0.75),
    Row("the same, float32", "paint-float32", "memory", "MiB"),
    Row("bfloat16 picture against float32's, of 255", "rounding", "difference", "", 1.0, None),
    Row("`ldm generate` with the tiny model, shell to PNG", "generate", "seconds", "s", 5.0, 3.0, "value"),
    Row("`import ldm`", "start", "import", "s", 0.1, None, "value"),
    Row("`ldm --help`", "start", "help", "s", 0.2, None, "value"),
    Row("tokenizer, a prompt at a time", "tokenizer", "rate", "/s", 1.0, 1.3, "ratio", True),
    Row("training step of the tiny U-Net", "train", "seconds", "s", 0.8, 0.6),
    Row("the same, compiled (`--compile`)", "train-compiled", "seconds", "s", None, None, "value"),
    Row("pictures of the tiny model, 1 at once", "throughput", "1", "/s", None, None, "value", True),
    Row("pictures of the tiny model, 2 at once", "throughput", "2", "/s", None, None, "value", True),
    Row("pictures of the tiny model, 4 at once", "throughput", "4", "/s", None, None, "value", True),
    Row("pictures of the tiny model, 8 at once", "throughput", "8", "/s", None, None, "value", True),
    Row(
        "decode 1024x1024 in tiles, memory above the model",
        "tiles-decode",
        "memory",
        "MiB",
        1536.0,
        None,
        "value",
    ),
    Row(
        "encode 1024x1024 in tiles, memory above the model",
        "tiles-encode",
        "memory",
        "MiB",
        1536.0,
        None,
        "value",
    ),
    Row("1024x1024 in tiles against the whole, of 255", "seams", "difference", "", 2.0, None, "value"),
)
# Of a CUDA card, where there is one.
CUDA_ROWS = (
    Row("U-Net step with guidance, float16", "cuda-unet", "seconds", "s"),
    Row("the same, both compiled", "cuda-unet-compiled", "seconds", "s"),
    Row("U-Net step with guidance, bfloat16", "cuda-unet-bfloat16", "seconds", "s"),
    Row(
        "its share of what matrix products reach here",
        "cuda-unet-bfloat16",
        "share",
        "%",
        more_is_better=True,
    ),
    Row("VAE decode, float16", "cuda-decode", "seconds", "s"),
    Row("VAE encode, float16", "cuda-encode", "seconds", "s"),
    Row("20 steps of DDIM, end to end, float16", "cuda-paint", "seconds", "s"),
    Row("peak memory of the card, load and paint, float16", "cuda-paint", "memory", "MiB"),
    Row("training step of the tiny U-Net", "cuda-train", "seconds", "s"),
)
# What makes it fast, each with it and without it; docs/fast.md walks through them.
GAIN_ROWS = (
    Row("loading: built without memory, the file mapped", "gain-load", "seconds", "s"),
    Row("U-Net step: bfloat16, not float32", "gain-bfloat16", "seconds", "s"),
    Row("VAE decode, bfloat16: channels last and the kept heap", "gain-decode", "seconds", "s"),
    Row("U-Net step, bfloat16: the attention kernel, not by hand", "gain-kernel", "seconds", "s"),
    Row("U-Net step, float32: the attention kernel, not by hand", "gain-kernel-float32", "seconds", "s"),
    Row("U-Net step, bfloat16: attention in pieces, with AVX-512", "gain-pieces", "seconds", "s"),
    Row("U-Net step, bfloat16: channels last", "gain-layout", "seconds", "s"),
    Row("U-Net step, float32: channels last", "gain-layout-float32", "seconds", "s"),
    Row("VAE decode, float32: channels last", "gain-decode-float32", "seconds", "s"),
    Row("the same, memory above the model", "gain-decode-float32", "memory", "MiB"),
    Row("VAE decode, bfloat16: doubled and convolved at once", "gain-doubling", "seconds", "s"),
    Row("VAE decode, float32: doubled and convolved at once", "gain-doubling-float32", "seconds", "s"),
    Row("U-Net step, bfloat16: the kept heap", "gain-heap", "seconds", "s"),
    Row("U-Net step, float32: the kept heap", "gain-heap-float32", "seconds", "s"),
    Row("U-Net step, float32: products by oneDNN, with AVX-512", "gain-products", "seconds", "s"),
    Row("U-Net step, bfloat16: guidance in one batch", "gain-batch", "seconds", "s"),
    Row("U-Net step, bfloat16: compiled (`--compile`)", "gain-compile", "seconds", "s"),
    Row("training step of the tiny U-Net: attention by hand", "gain-train-attention", "seconds", "s"),
    Row("training step of the tiny U-Net: the fused AdamW", "gain-train-adamw", "seconds", "s"),
)
ROWS = CPU_ROWS + CUDA_ROWS + GAIN_ROWS
# Cases that the reference has nothing to compare with.
OURS_ALONE = ("generate", "start", "train-compiled", "throughput", "tiles-decode", "tiles-encode", "seams")


def on_card(case: str) -> bool:
    """Whether a case is measured on a CUDA card."""
    return case.startswith("cuda-")


def needs_bfloat16(case: str) -> bool:
    """Whether a case is of bfloat16 on the CPU, which is slow without instructions for it, and not chosen then."""
    return not on_card(case) and any("bfloat16" in row.what for row in ROWS if row.case == case)


def is_gain(case: str) -> bool:
    """Whether a case shows what one thing gives: it is measured with it and without it."""
    return case.startswith("gain-")


def samples(case: str, quick: bool) -> int:
    """How many fresh processes measure a case, of which the table shows the median."""
    if quick:
        return 1
    if case in ("rounding", "seams"):  # which are the same every time
        return 1
    return 3 if "paint" in case else 5
