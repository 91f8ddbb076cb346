r"""Our cases without one optimisation each, to show what it gains (see `ours.py`)."""

import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ldm.backend.allocator import keep_heap
from ldm.backend.matmul import use_onednn_matmul
from ldm.checkpoints.collect import collect
from ldm.lab.bench.fresh import Case, Numbers, main
from ldm.lab.bench.networks import decode, evaluation, train, unet_step
from ldm.lab.bench.stopwatch import DEVICE, WARM, read_through, seconds
from ldm.lab.bench.workload import Sizes
from ldm.loading import load
from ldm.nn.attention import Attention
from ldm.nn.resnet import Upsample
from ldm.pipeline import LatentDiffusion
from ldm.text.encoder import TextEncoder
from ldm.train.loop import use_plain_attention
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.backend.slower import plain


def channels_first(model: LatentDiffusion) -> None:
    r"""torch's default memory format, of weights and inputs."""
    for network in (model.unet, model.vae):
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for first in (model.unet.conv_in, model.vae.encoder.conv_in, model.vae.decoder.post_quant_conv):
        first.register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())


def by_hand(model: LatentDiffusion) -> None:
    use_plain_attention(model.unet)


def unchunked(model: LatentDiffusion) -> None:
    r"""Attention by torch's kernel on every CPU."""
    plain(model.unet, Attention)


def plain_convolutions(model: LatentDiffusion) -> None:
    r"""Convolutions by torch's library."""
    for network in (model.unet, model.vae):
        plain(network, nn.Conv2d)


def unfused_upsample(model: LatentDiffusion) -> None:
    r"""Repeat pixels, then convolve."""
    plain(model.vae, Upsample)


@torch.no_grad()
def unbatched_guidance(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    r"""Guidance as two model evaluations, one with the prompt and one without."""
    model = load(folder, dtype, DEVICE)
    step = evaluation(model, sizes, guidance=1.0)

    def both() -> None:
        step()
        step()

    seconds(both, WARM)
    return {"seconds": seconds(both)}


def load_plainly(folder: Path, sizes: Sizes) -> Numbers:
    r"""Build networks with torch's random initialisation, then copy the file's weights over it."""
    read_through(folder)
    begin = time.perf_counter()
    made = collect(folder)
    config = made.model.config
    for network, name in (
        (TextEncoder(config.text), "text"),
        (VAE(config.vae), "vae"),
        (UNet(config.unet), "unet"),
    ):
        network.load_state_dict(made.tensors[name])
    return {"seconds": time.perf_counter() - begin}


CASES: dict[str, Case] = {
    "gain-load": load_plainly,
    "gain-bfloat16": partial(unet_step, dtype=torch.float32),
    "gain-int8": partial(unet_step, dtype=torch.bfloat16),
    "gain-decode": partial(decode, dtype=torch.bfloat16, change=channels_first),
    "gain-kernel": partial(unet_step, dtype=torch.bfloat16, change=by_hand),
    "gain-kernel-float32": partial(unet_step, dtype=torch.float32, change=by_hand),
    "gain-pieces": partial(unet_step, dtype=torch.bfloat16, change=unchunked),
    "gain-winograd": partial(unet_step, dtype=torch.bfloat16, change=plain_convolutions),
    "gain-winograd-float32": partial(unet_step, dtype=torch.float32, change=plain_convolutions),
    "gain-winograd-decode": partial(decode, dtype=torch.bfloat16, change=plain_convolutions),
    "gain-winograd-decode-float32": partial(decode, dtype=torch.float32, change=plain_convolutions),
    "gain-layout": partial(unet_step, dtype=torch.bfloat16, change=channels_first),
    "gain-layout-float32": partial(unet_step, dtype=torch.float32, change=channels_first),
    "gain-decode-float32": partial(decode, dtype=torch.float32, change=channels_first),
    "gain-doubling": partial(decode, dtype=torch.bfloat16, change=unfused_upsample),
    "gain-doubling-float32": partial(decode, dtype=torch.float32, change=unfused_upsample),
    "gain-heap": partial(unet_step, dtype=torch.bfloat16),
    "gain-heap-float32": partial(unet_step, dtype=torch.float32),
    "gain-products": partial(unet_step, dtype=torch.float32),
    "gain-batch": partial(unbatched_guidance, dtype=torch.bfloat16),
    "gain-compile": partial(unet_step, dtype=torch.bfloat16),
    "gain-train-attention": partial(train, by_hand=False),
    "gain-train-adamw": partial(train, fused=False),
}
NO_HEAP = ("gain-decode", "gain-heap", "gain-heap-float32")

if __name__ == "__main__":
    if sys.argv[1] not in NO_HEAP:
        keep_heap()
    if sys.argv[1] != "gain-products":
        use_onednn_matmul()
    main(CASES)
