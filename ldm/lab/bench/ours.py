"""Our arm of the benchmark: how this package is used, with a stopwatch beside it. `fresh.py` starts it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ldm.backend.allocator import keep_heap
from ldm.backend.matmul import quick_products
from ldm.config import TINY
from ldm.diffusion.level import vp_level
from ldm.images.pixels import to_pixels
from ldm.lab.bench.fresh import Case, Numbers, answer
from ldm.lab.bench.sizes import PROMPT, Sizes
from ldm.lab.bench.stopwatch import anonymous_memory, peak_memory, seconds
from ldm.lab.bench.work import DEVICE, TIMES, WARM, T, memory_in_use, numbers, read_through, share
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.postcards import SCENES, draw
from ldm.text.tokenizer import Tokenizer
from ldm.train.diffusion import diffusion_loss
from ldm.train.loop import optimizer_step, use_plain_attention
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles

Change = Callable[[LatentDiffusion], object]  # what is done to a model before it is measured


def as_it_is(model: LatentDiffusion) -> None:
    """No change."""


def compile_unet(model: LatentDiffusion) -> None:
    model.unet.compile()


def evaluation(model: LatentDiffusion, sizes: Sizes, guidance: float | None = None) -> Callable[[], object]:
    """A function of no arguments: one model evaluation with the model's own guidance, as each step of sampling does."""
    config, side = sizes.config, sizes.side // sizes.config.vae.factor
    x_t = numbers(1, 1, config.vae.latent_channels, side, side, dtype=model.sampling_dtype)
    cond, uncond = numbers(2, 2, config.text.context_length, config.text.width, dtype=model.dtype).split(1)
    denoise = model.denoiser(cond, uncond, config.defaults.guidance if guidance is None else guidance)
    return partial(denoise, x_t, vp_level(T, model.alpha_bar()))


@torch.no_grad()
def unet_step(folder: Path, sizes: Sizes, dtype: torch.dtype, change: Change = as_it_is) -> Numbers:
    model = load(folder, dtype, DEVICE)
    change(model)
    step = evaluation(model, sizes)
    seconds(step, WARM)
    return {"seconds": seconds(step, TIMES)}


@torch.no_grad()
def unet_share(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    return share(evaluation(load(folder, dtype, DEVICE), sizes), dtype)


def memory(before: int | None, peak: int | None) -> Numbers:
    """What was taken above `before`, in MiB; nothing where the system does not tell."""
    return {} if before is None or peak is None else {"memory": (peak - before) / 2**20}


@torch.no_grad()
def decode(folder: Path, sizes: Sizes, dtype: torch.dtype, change: Change = as_it_is) -> Numbers:
    """Seconds, and the memory in MiB that it takes above that of the loaded model."""
    model, side = load(folder, dtype, DEVICE), sizes.side // sizes.config.vae.factor
    change(model)
    work = partial(model.vae.decode, numbers(1, 1, sizes.config.vae.latent_channels, side, side, dtype=dtype))
    before = anonymous_memory()
    with peak_memory() as peak:
        seconds(work, WARM)
        found = {"seconds": seconds(work, TIMES)}
    return found | memory(before, peak.bytes)


@torch.no_grad()
def encode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae = load(folder, dtype, DEVICE).vae
    work = partial(vae.encode, numbers(1, 1, 3, sizes.side, sizes.side, dtype=dtype).clamp(-1, 1))
    seconds(work, WARM)
    return {"seconds": seconds(work, TIMES)}


@torch.no_grad()
def tiles(folder: Path, sizes: Sizes, way: str) -> Numbers:
    """The memory, in MiB, that a picture of twice the side takes in tiles, above that of the loaded model."""
    model, side = load(folder, device=DEVICE), 2 * sizes.side
    places, channels = side // model.vae.factor, sizes.config.vae.latent_channels
    latent = numbers(1, 1, channels, places, places, dtype=model.dtype)
    pixels = numbers(1, 1, 3, side, side, dtype=model.dtype).clamp(-1, 1)
    before = anonymous_memory()
    with peak_memory() as peak:
        if way == "decode":
            decode_in_tiles(model.vae, latent)
        else:
            encode_in_tiles(model.vae, pixels)
    return memory(before, peak.bytes)


@torch.no_grad()
def seams(folder: Path, sizes: Sizes) -> Numbers:
    """How far what the tiny model decodes in tiles is from what it decodes whole: the mean difference, of 255."""
    vae, side = load("tiny", torch.float32, DEVICE).vae, 2 * sizes.side
    drawing = draw(SCENES[0], np.random.default_rng(0), side)
    latent, _ = vae.encode(to_pixels([drawing]).to(DEVICE))
    whole, tiled = (decoded.clamp(-1, 1) for decoded in (vae.decode(latent), decode_in_tiles(vae, latent)))
    return {"difference": 127.5 * float((tiled - whole).abs().mean())}


def paint(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    """A whole picture; the seconds are those of painting it, the memory that of loading and painting."""
    with peak_memory(memory_in_use) as peak:
        model = load(folder, dtype, DEVICE)
        took = seconds(
            partial(
                model.generate,
                PROMPT.format(0),
                seed=0,
                sampler="ddim",
                steps=sizes.steps,
                size=(sizes.side, sizes.side),
            )
        )
    found = {"seconds": took}
    return found if peak.bytes is None else found | {"memory": peak.bytes / 2**20}


def rounding(folder: Path, sizes: Sizes) -> Numbers:
    """How far the bfloat16 picture of a whole run is from the float32 one: the mean difference, of 255.

    At half the side, since no time is measured here.
    """

    def painted(dtype: torch.dtype) -> np.ndarray:
        model, size = load(folder, dtype, DEVICE), (sizes.side // 2, sizes.side // 2)
        [picture] = model.generate(PROMPT.format(0), seed=0, sampler="ddim", steps=sizes.steps, size=size)
        return np.asarray(picture, dtype=np.float64)

    return {"difference": float(np.abs(painted(torch.bfloat16) - painted(torch.float32)).mean())}


@torch.no_grad()
def load_and_evaluate(folder: Path, sizes: Sizes, dtype: torch.dtype | None = torch.float32) -> Numbers:
    """`dtype` None: the one that `load` picks."""
    read_through(folder)
    begin = time.perf_counter()
    model = load(folder, dtype, DEVICE)
    loaded = time.perf_counter()
    seconds(evaluation(model, sizes))
    return {"object": loaded - begin, "step": time.perf_counter() - begin}


def tokenize(folder: Path, sizes: Sizes) -> Numbers:
    tokenizer = Tokenizer.load(folder / "tokenizer")
    prompts = [PROMPT.format(i) for i in range(sizes.prompts)]
    tokenizer(prompts[0])
    took = seconds(lambda: [tokenizer(prompt) for prompt in prompts])
    return {"rate": len(prompts) / took}


def loading(folder: Path, sizes: Sizes) -> Numbers:
    read_through(folder)
    return {"seconds": seconds(partial(load, folder, torch.float32, DEVICE))}


def train(
    folder: Path, sizes: Sizes, compiled: bool = False, by_hand: bool = True, fused: bool = True
) -> Numbers:
    """Steps as `ldm.train.diffusion` takes them: noise, forward, backward, clipped update."""
    torch.manual_seed(0)
    unet, batch, side = UNet(TINY.unet).to(DEVICE), sizes.batch, TINY.defaults.size // TINY.vae.factor
    if by_hand:
        use_plain_attention(unet)
    if compiled:
        unet.compile()
    optimizer = torch.optim.AdamW(unet.parameters(), fused=fused)
    latents, eps = (numbers(seed, batch, 4, side, side) for seed in (1, 2))
    context = numbers(3, batch, TINY.text.context_length, TINY.text.width)
    t = torch.arange(batch, device=DEVICE) * TINY.noise.steps // batch

    def step() -> None:
        optimizer_step(unet, optimizer, diffusion_loss(unet, latents, t, eps, context, TINY.noise), 1e-4)

    seconds(step, WARM)
    return {"seconds": seconds(step, sizes.training)}


def generate(folder: Path, sizes: Sizes) -> Numbers:
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable,
            "-m",
            "ldm",
            "generate",
            "a dog with glasses",
            "--model",
            "tiny",
            "--seed",
            "0",
        ]
        command += ["--out", f"{place}/dog.png"]
        return {"seconds": seconds(partial(subprocess.run, command, check=True, capture_output=True))}


def start(folder: Path, sizes: Sizes) -> Numbers:
    watch = "import time; begin = time.perf_counter(); import ldm; print(time.perf_counter() - begin)"
    done = subprocess.run([sys.executable, "-c", watch], check=True, capture_output=True, text=True)
    command = [sys.executable, "-m", "ldm", "--help"]
    shown = seconds(partial(subprocess.run, command, check=True, capture_output=True))
    return {"import": float(done.stdout), "help": shown}


def throughput(folder: Path, sizes: Sizes) -> Numbers:
    """Pictures of the tiny model a second, painted several at once."""
    model = load("tiny", device=DEVICE)
    model.generate("a dog", seed=0, steps=1)
    return {
        str(batch): batch / seconds(partial(model.generate, "a dog with glasses", seed=0, batch=batch))
        for batch in sizes.batches
    }


CASES: dict[str, Case] = {
    "unet-bfloat16": partial(unet_step, dtype=torch.bfloat16),
    "unet-float32": partial(unet_step, dtype=torch.float32),
    "decode-bfloat16": partial(decode, dtype=torch.bfloat16),
    "decode-float32": partial(decode, dtype=torch.float32),
    "encode-bfloat16": partial(encode, dtype=torch.bfloat16),
    "paint-bfloat16": partial(paint, dtype=torch.bfloat16),
    "paint-float32": partial(paint, dtype=torch.float32),
    "rounding": rounding,
    "load": load_and_evaluate,
    "load-default": partial(load_and_evaluate, dtype=None),
    "tokenizer": tokenize,
    "train": train,
    "train-compiled": partial(train, compiled=True),
    "generate": generate,
    "start": start,
    "throughput": throughput,
    "tiles-decode": partial(tiles, way="decode"),
    "tiles-encode": partial(tiles, way="encode"),
    "seams": seams,
    "cuda-unet": partial(unet_step, dtype=torch.float16),
    "cuda-unet-compiled": partial(unet_step, dtype=torch.float16, change=compile_unet),
    "cuda-unet-bfloat16": partial(unet_share, dtype=torch.bfloat16),
    "cuda-decode": partial(decode, dtype=torch.float16),
    "cuda-encode": partial(encode, dtype=torch.float16),
    "cuda-paint": partial(paint, dtype=torch.float16),
    "cuda-train": train,
    "gain-load": loading,
    "gain-bfloat16": partial(unet_step, dtype=torch.bfloat16),
    "gain-decode": partial(decode, dtype=torch.bfloat16),
    "gain-kernel": partial(unet_step, dtype=torch.bfloat16),
    "gain-kernel-float32": partial(unet_step, dtype=torch.float32),
    "gain-pieces": partial(unet_step, dtype=torch.bfloat16),
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
    keep_heap()  # as the `ldm` command does
    quick_products()
    answer(CASES)
