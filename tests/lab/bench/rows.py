r"""The rows of the comparison: those of `ldm bench` with their goals, and the gain of each optimisation."""

from dataclasses import dataclass

from ldm.lab.bench import cases
from ldm.lab.bench.fresh import is_cuda

# Cases without a counterpart in the reference.
OURS_ALONE = (
    *(
        "peak-bfloat16",
        "peak-float32",
        "share-bfloat16",
        "share-float32",
        "layers-bfloat16",
        "layers-float32",
    ),
    *(
        "generate",
        "four-steps",
        "start",
        "train-compiled",
        "train-share",
        "throughput",
        "tiles-decode",
        "tiles-encode",
        "seams",
    ),
    "rounding-int8",
)
# Cases that OpenVINO measures beside diffusers. (Of a whole image only bfloat16: float32 takes five minutes.)
BY_OPENVINO = (
    *("unet-bfloat16", "unet-float32", "decode-bfloat16", "decode-float32", "encode-bfloat16"),
    "paint-bfloat16",
)
# Cases that OpenVINO alone measures: diffusers computes nothing in 8 bits by default.
BY_OPENVINO_ALONE = ("unet-int8", "paint-int8")
# (case, number) -> goal and stretch goal, at 512 x 512 pixels on two cores of a CPU. They are for our number divided by
# the best reference's, or for our number itself where there is no reference.
GOALS: dict[tuple[str, str], tuple[float, float | None]] = {
    ("unet-bfloat16", "seconds"): (1.0, 0.85),
    ("unet-float32", "seconds"): (0.95, 0.90),
    ("decode-bfloat16", "seconds"): (0.78, 0.72),
    ("decode-float32", "seconds"): (0.75, 0.72),
    ("paint-bfloat16", "seconds"): (0.98, 0.85),
    ("paint-float32", "seconds"): (0.95, 0.88),
    ("paint-int8", "seconds"): (1.1, 0.95),
    ("load", "object"): (0.5, 0.25),
    ("load", "step"): (0.5, 0.25),
    ("load-default", "object"): (0.5, 0.25),
    ("load-default", "step"): (0.5, 0.25),
    ("paint-bfloat16", "memory"): (0.95, None),
    ("rounding", "difference"): (1.0, None),
    ("generate", "seconds"): (2.2, None),
    ("four-steps", "seconds"): (30.0, 20.0),
    ("start", "import"): (0.1, None),
    ("start", "help"): (0.2, None),
    ("tokenizer", "rate"): (1.0, 1.3),
    ("train", "seconds"): (0.8, 0.6),
    ("train-share", "share"): (100 / 1.5, None),  # at most 1.5 times what the operations take by themselves
    ("throughput", "share"): (100 / 1.3, None),
    ("tiles-decode", "memory"): (1536.0, None),
    ("tiles-encode", "memory"): (1536.0, None),
    ("seams", "difference"): (2.0, None),
}


@dataclass(frozen=True)
class Row(cases.Row):
    r"""A row with its goals."""

    goal: float | None = None
    stretch: float | None = None

    @property
    def is_ratio(self) -> bool:
        r"""Whether goals are for the ratio to the reference, not for our number itself."""
        return self.case not in OURS_ALONE

    @property
    def more_is_better(self) -> bool:
        return self.unit in ("/s", "%")


def with_goals(row: cases.Row) -> Row:
    goal, stretch = GOALS.get((row.case, row.number), (None, None))
    return Row(row.what, row.case, row.number, row.unit, goal, stretch)


def reached(row: Row, value: float | None) -> str:
    r"""The verdict on a measured ratio or value: "stretch", "goal", "no", or "" without a value or a goal."""
    if value is None or row.goal is None:
        return ""
    sign = -1 if row.more_is_better else 1
    if row.stretch is not None and sign * value <= sign * row.stretch:
        return "stretch"
    return "goal" if sign * value <= sign * row.goal else "no"


CPU_ROWS = tuple(with_goals(row) for row in cases.ROWS if not is_cuda(row.case))
CUDA_ROWS = tuple(with_goals(row) for row in cases.ROWS if is_cuda(row.case))
# Each optimisation, with and without; docs/fast.md explains them.
GAIN_ROWS = (
    Row("loading: built without memory, the file mapped", "gain-load", "seconds", "s"),
    Row("U-Net step: bfloat16, not float32", "gain-bfloat16", "seconds", "s"),
    Row("VAE decode, bfloat16: channels last and the kept heap", "gain-decode", "seconds", "s"),
    Row("U-Net step: 8-bit integers (`--int8`), not bfloat16", "gain-int8", "seconds", "s"),
    Row("U-Net step, bfloat16: the attention kernel, not by hand", "gain-kernel", "seconds", "s"),
    Row("U-Net step, float32: the attention kernel, not by hand", "gain-kernel-float32", "seconds", "s"),
    Row("U-Net step, bfloat16: chunked attention, where it won the trial", "gain-pieces", "seconds", "s"),
    Row("U-Net step, bfloat16: Winograd convolutions, where they won", "gain-winograd", "seconds", "s"),
    Row("U-Net step, float32: Winograd convolutions", "gain-winograd-float32", "seconds", "s"),
    Row("VAE decode, bfloat16: Winograd convolutions", "gain-winograd-decode", "seconds", "s"),
    Row("VAE decode, float32: Winograd convolutions", "gain-winograd-decode-float32", "seconds", "s"),
    Row("U-Net step, bfloat16: channels last", "gain-layout", "seconds", "s"),
    Row("U-Net step, float32: channels last", "gain-layout-float32", "seconds", "s"),
    Row("VAE decode, float32: channels last", "gain-decode-float32", "seconds", "s"),
    Row("the same, memory above the model", "gain-decode-float32", "memory", "MiB"),
    Row("VAE decode, bfloat16: upsampling fused with the convolution", "gain-doubling", "seconds", "s"),
    Row(
        "VAE decode, float32: upsampling fused with the convolution", "gain-doubling-float32", "seconds", "s"
    ),
    Row("U-Net step, bfloat16: the kept heap", "gain-heap", "seconds", "s"),
    Row("U-Net step, float32: the kept heap", "gain-heap-float32", "seconds", "s"),
    Row("U-Net step, float32: matrix products by oneDNN, with AVX-512", "gain-products", "seconds", "s"),
    Row("U-Net step, bfloat16: guidance in one batch", "gain-batch", "seconds", "s"),
    Row("U-Net step, bfloat16: compiled (`--compile`)", "gain-compile", "seconds", "s"),
    Row("training step of the tiny U-Net: attention by hand", "gain-train-attention", "seconds", "s"),
    Row("training step of the tiny U-Net: the fused AdamW", "gain-train-adamw", "seconds", "s"),
)
ROWS = CPU_ROWS + CUDA_ROWS + GAIN_ROWS


def is_gain(case: str) -> bool:
    r"""Whether a case is measured with and without one optimisation."""
    return case.startswith("gain-")
