r"""Our side of the comparison: the cases of `ldm bench`, and those that show the gain of one optimisation each."""

from functools import partial
from pathlib import Path

import torch

from ldm.backend.allocator import keep_heap
from ldm.backend.matmul import use_onednn_matmul
from ldm.lab.bench import cases
from ldm.lab.bench.fresh import Case, Numbers, main
from ldm.lab.bench.networks import compile_unet, decode, int8_unet, train, unet_step
from ldm.lab.bench.stopwatch import DEVICE, read_through, seconds
from ldm.lab.bench.workload import Sizes
from ldm.loading import load


def loading(folder: Path, sizes: Sizes) -> Numbers:
    read_through(folder)
    return {"seconds": seconds(partial(load, folder, torch.float32, DEVICE))}


CASES: dict[str, Case] = cases.CASES | {
    "gain-load": loading,
    "gain-bfloat16": partial(unet_step, dtype=torch.bfloat16),
    "gain-int8": partial(unet_step, dtype=torch.bfloat16, change=int8_unet),
    "gain-decode": partial(decode, dtype=torch.bfloat16),
    "gain-kernel": partial(unet_step, dtype=torch.bfloat16),
    "gain-kernel-float32": partial(unet_step, dtype=torch.float32),
    "gain-pieces": partial(unet_step, dtype=torch.bfloat16),
    "gain-winograd": partial(unet_step, dtype=torch.bfloat16),
    "gain-winograd-float32": partial(unet_step, dtype=torch.float32),
    "gain-winograd-decode": partial(decode, dtype=torch.bfloat16),
    "gain-winograd-decode-float32": partial(decode, dtype=torch.float32),
    "gain-layout": partial(unet_step, dtype=torch.bfloat16),
    "gain-layout-float32": partial(unet_step, dtype=torch.float32),
    "gain-decode-float32": partial(decode, dtype=torch.float32),
    "gain-doubling": partial(decode, dtype=torch.bfloat16),
    "gain-doubling-float32": partial(decode, dtype=torch.float32),
    "gain-heap": partial(unet_step, dtype=torch.bfloat16),
    "gain-heap-float32": partial(unet_step, dtype=torch.float32),
    "gain-products": partial(unet_step, dtype=torch.float32),
    "gain-batch": partial(unet_step, dtype=torch.bfloat16),
    "gain-compile": partial(unet_step, dtype=torch.bfloat16, change=compile_unet),
    "gain-train-attention": train,
    "gain-train-adamw": train,
}

if __name__ == "__main__":
    keep_heap()
    use_onednn_matmul()
    main(CASES)
