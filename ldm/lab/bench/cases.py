"""The benchmark's cases by name, each run in a process of its own (`fresh.py`), and the rows of its table."""

from dataclasses import dataclass
from functools import partial

import torch

from ldm.backend.allocator import keep_heap
from ldm.backend.matmul import use_onednn_matmul
from ldm.lab.bench.fresh import Case, main
from ldm.lab.bench.images import (
    four_steps,
    generate_command,
    load_and_evaluate,
    rounding,
    rounding_int8,
    start,
    text_to_image,
    throughput,
    tokenize,
)
from ldm.lab.bench.networks import (
    compile_unet,
    decode,
    encode,
    int8_unet,
    peak,
    seams,
    tiles,
    train,
    train_share,
    unet_layers,
    unet_share,
    unet_step,
    unet_utilization,
)

CASES: dict[str, Case] = {
    "peak-bfloat16": partial(peak, dtype=torch.bfloat16),
    "peak-float32": partial(peak, dtype=torch.float32),
    "share-bfloat16": partial(unet_share, dtype=torch.bfloat16),
    "share-float32": partial(unet_share, dtype=torch.float32),
    "layers-bfloat16": partial(unet_layers, dtype=torch.bfloat16),
    "layers-float32": partial(unet_layers, dtype=torch.float32),
    "unet-bfloat16": partial(unet_step, dtype=torch.bfloat16),
    "unet-float32": partial(unet_step, dtype=torch.float32),
    "unet-int8": partial(unet_step, dtype=torch.bfloat16, change=int8_unet),
    "decode-bfloat16": partial(decode, dtype=torch.bfloat16),
    "decode-float32": partial(decode, dtype=torch.float32),
    "encode-bfloat16": partial(encode, dtype=torch.bfloat16),
    "paint-bfloat16": partial(text_to_image, dtype=torch.bfloat16),
    "paint-float32": partial(text_to_image, dtype=torch.float32),
    "paint-int8": partial(text_to_image, dtype=torch.bfloat16, change=int8_unet),
    "rounding": rounding,
    "rounding-int8": rounding_int8,
    "load": load_and_evaluate,
    "load-default": partial(load_and_evaluate, dtype=None),
    "tokenizer": tokenize,
    "train": train,
    "train-share": train_share,
    "train-compiled": partial(train, compiled=True),
    "generate": generate_command,
    "four-steps": four_steps,
    "start": start,
    "throughput": throughput,
    "tiles-decode": partial(tiles, way="decode"),
    "tiles-encode": partial(tiles, way="encode"),
    "seams": seams,
    "cuda-unet": partial(unet_step, dtype=torch.float16),
    "cuda-unet-compiled": partial(unet_step, dtype=torch.float16, change=compile_unet),
    "cuda-unet-bfloat16": partial(unet_utilization, dtype=torch.bfloat16),
    "cuda-decode": partial(decode, dtype=torch.float16),
    "cuda-encode": partial(encode, dtype=torch.float16),
    "cuda-paint": partial(text_to_image, dtype=torch.float16),
    "cuda-train": train,
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a number that a case measures."""

    what: str
    case: str
    number: str
    unit: str


ROWS = (
    Row("U-Net step with guidance, bfloat16", "unet-bfloat16", "seconds", "s"),
    Row("U-Net step with guidance, float32", "unet-float32", "seconds", "s"),
    Row("U-Net step with guidance, 8-bit integers beside bfloat16", "unet-int8", "seconds", "s"),
    Row("VAE decode, bfloat16", "decode-bfloat16", "seconds", "s"),
    Row("VAE decode, float32", "decode-float32", "seconds", "s"),
    Row("VAE encode, bfloat16", "encode-bfloat16", "seconds", "s"),
    Row("20 steps of DDIM, end to end, bfloat16", "paint-bfloat16", "seconds", "s"),
    Row("20 steps of DDIM, end to end, float32", "paint-float32", "seconds", "s"),
    Row("20 steps of DDIM, end to end, 8-bit integers beside bfloat16", "paint-int8", "seconds", "s"),
    Row("load float32 from a warm file: to the object", "load", "object", "s"),
    Row("load float32 from a warm file: to the end of the first step", "load", "step", "s"),
    Row("load in the default format, bfloat16 if it is fast: to the object", "load-default", "object", "s"),
    Row("and to the end of the first step", "load-default", "step", "s"),
    Row("peak anonymous memory, load and generate, bfloat16", "paint-bfloat16", "memory", "MiB"),
    Row("the same, float32", "paint-float32", "memory", "MiB"),
    Row("bfloat16 image against float32's, of 255", "rounding", "difference", ""),
    Row("the tiny model's images in bfloat16 against float32's, of 255", "rounding-int8", "bfloat16", ""),
    Row("the same, with 8-bit integers beside bfloat16", "rounding-int8", "int8", ""),
    Row("`ldm generate` with the tiny model, shell to PNG", "generate", "seconds", "s"),
    Row("4 steps without guidance, 512x512, shell to PNG", "four-steps", "seconds", "s"),
    Row("`import ldm`", "start", "import", "s"),
    Row("`ldm --help`", "start", "help", "s"),
    Row("tokenizer, a prompt at a time", "tokenizer", "rate", "/s"),
    Row("training step of the tiny U-Net", "train", "seconds", "s"),
    Row("the same, compiled (`--compile`)", "train-compiled", "seconds", "s"),
    *(Row(f"images of the tiny model, batch {n}", "throughput", str(n), "/s") for n in (1, 2, 4, 8, 16)),
    Row("images in batches of 16, as a percentage of the matrix products", "throughput", "share", "%"),
    Row(
        "training step of the tiny U-Net, as a percentage of the matrix products", "train-share", "share", "%"
    ),
    Row("decode 1024x1024 in tiles, memory above the model", "tiles-decode", "memory", "MiB"),
    Row("encode 1024x1024 in tiles, memory above the model", "tiles-encode", "memory", "MiB"),
    Row("1024x1024 in tiles against the whole, of 255", "seams", "difference", ""),
    Row("this machine: matrix products, bfloat16", "peak-bfloat16", "matmul", "GFLOP/s"),
    Row("this machine: 3x3 convolutions, bfloat16", "peak-bfloat16", "conv", "GFLOP/s"),
    Row("this machine: matrix products, float32", "peak-float32", "matmul", "GFLOP/s"),
    Row("this machine: 3x3 convolutions, float32", "peak-float32", "conv", "GFLOP/s"),
    Row("U-Net step, bfloat16, as a percentage of the matrix products", "share-bfloat16", "share", "%"),
    Row("U-Net step, float32, as a percentage of the matrix products", "share-float32", "share", "%"),
    Row("U-Net step, bfloat16, while each layer is timed", "layers-bfloat16", "seconds", "s"),
    Row("U-Net step, float32, while each layer is timed", "layers-float32", "seconds", "s"),
    Row("U-Net step with guidance, float16", "cuda-unet", "seconds", "s"),
    Row("the same, compiled", "cuda-unet-compiled", "seconds", "s"),
    Row("U-Net step with guidance, bfloat16", "cuda-unet-bfloat16", "seconds", "s"),
    Row("as a percentage of the FLOP/s of matrix products", "cuda-unet-bfloat16", "share", "%"),
    Row("VAE decode, float16", "cuda-decode", "seconds", "s"),
    Row("VAE encode, float16", "cuda-encode", "seconds", "s"),
    Row("20 steps of DDIM, end to end, float16", "cuda-paint", "seconds", "s"),
    Row("peak CUDA memory, load and generate, float16", "cuda-paint", "memory", "MiB"),
    Row("training step of the tiny U-Net", "cuda-train", "seconds", "s"),
)

if __name__ == "__main__":
    keep_heap()  # as the `ldm` command does
    use_onednn_matmul()
    main(CASES)
