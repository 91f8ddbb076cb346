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
from jaxtyping import Float
from torch import Tensor

from ldm.bench.fresh import Case, Numbers, answer
from ldm.bench.sizes import PROMPT, Sizes
from ldm.bench.stopwatch import peak_memory, seconds
from ldm.config import TINY
from ldm.heap import keep_heap
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.text.tokenizer import Tokenizer
from ldm.train.diffusion import diffusion_loss
from ldm.train.loop import attend_by_hand, descend
from ldm.unet.unet import UNet

DEVICE = "cpu"  # what the goals were set for
T = 500  # a timestep in the middle of the schedule


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Standard normal numbers, the same for both arms."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def read_through(folder: Path) -> None:
    """Read every file once, so that the system has it in memory: the disk is not what is measured."""
    for path in folder.rglob("*.safetensors"):
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def look(model: LatentDiffusion, sizes: Sizes) -> Callable[[], object]:
    """A function of nothing that takes one look with guidance, as each step of painting does."""
    config, side = sizes.config, sizes.side // sizes.config.vae.factor
    x_t = numbers(1, 1, config.vae.latent_channels, side, side, dtype=model.dtype)
    cond, uncond = numbers(2, 2, config.text.context_length, config.text.width, dtype=model.dtype).split(1)
    denoise = model.denoiser(cond, uncond, config.defaults.guidance)
    return partial(denoise, x_t, T, model.alpha_bar()[T])


@torch.no_grad()
def unet_step(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    step = look(load(folder, dtype, DEVICE), sizes)
    seconds(step)
    return {"seconds": seconds(step)}


@torch.no_grad()
def decode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae, side = load(folder, dtype, DEVICE).vae, sizes.side // sizes.config.vae.factor
    work = partial(vae.decode, numbers(1, 1, sizes.config.vae.latent_channels, side, side, dtype=dtype))
    seconds(work)
    return {"seconds": seconds(work)}


@torch.no_grad()
def encode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae = load(folder, dtype, DEVICE).vae
    work = partial(vae.encode, numbers(1, 1, 3, sizes.side, sizes.side, dtype=dtype).clamp(-1, 1))
    seconds(work)
    return {"seconds": seconds(work)}


def paint(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    """A whole picture; the seconds are those of painting it, the memory that of loading and painting."""
    with peak_memory() as peak:
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
def load_and_look(folder: Path, sizes: Sizes) -> Numbers:
    read_through(folder)
    begin = time.perf_counter()
    model = load(folder, torch.float32, DEVICE)
    loaded = time.perf_counter()
    seconds(look(model, sizes))
    return {"object": loaded - begin, "step": time.perf_counter() - begin}


def tokenize(folder: Path, sizes: Sizes) -> Numbers:
    tokenizer = Tokenizer.load(folder / "tokenizer")
    prompts = [PROMPT.format(i) for i in range(sizes.prompts)]
    tokenizer(prompts[0])
    took = seconds(lambda: [tokenizer(prompt) for prompt in prompts])
    return {"rate": len(prompts) / took}


def train(folder: Path, sizes: Sizes, compiled: bool = False) -> Numbers:
    """Steps as `ldm.train.diffusion` takes them: noise, forward, backward, clipped update."""
    torch.manual_seed(0)
    unet, batch, side = UNet(TINY.unet), sizes.batch, TINY.defaults.size // TINY.vae.factor
    attend_by_hand(unet)
    if compiled:
        unet.compile()
    optimizer = torch.optim.AdamW(unet.parameters(), fused=True)
    latents, eps = (numbers(seed, batch, 4, side, side) for seed in (1, 2))
    context = numbers(3, batch, TINY.text.context_length, TINY.text.width)
    t = torch.arange(batch) * TINY.noise.steps // batch

    def step() -> None:
        descend(unet, optimizer, diffusion_loss(unet, latents, t, eps, context, TINY.noise), 1e-4)

    step()
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
    "load": load_and_look,
    "tokenizer": tokenize,
    "train": train,
    "train-compiled": partial(train, compiled=True),
    "generate": generate,
    "start": start,
    "throughput": throughput,
}

if __name__ == "__main__":
    keep_heap()  # as the `ldm` command does
    answer(CASES)
