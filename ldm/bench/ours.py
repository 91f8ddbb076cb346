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
from torch.utils.flop_counter import FlopCounterMode

from ldm.bench.fresh import Case, Numbers, answer
from ldm.bench.sizes import PROMPT, Sizes
from ldm.bench.stopwatch import anonymous_memory, peak_memory, seconds
from ldm.config import TINY
from ldm.heap import keep_heap
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.pixels import to_pixels
from ldm.postcards import SCENES, draw
from ldm.text.tokenizer import Tokenizer
from ldm.train.diffusion import diffusion_loss
from ldm.train.loop import attend_by_hand, descend
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # `fresh.py` hides the card from the cases of the CPU
# Calls before the watch starts, and while it runs: a card does in milliseconds what takes a CPU seconds.
WARM, TIMES = (3, 10) if DEVICE == "cuda" else (1, 1)
T = 500  # a timestep in the middle of the schedule


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Standard normal numbers, the same for both arms."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


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
def unet_step(folder: Path, sizes: Sizes, dtype: torch.dtype, compiled: bool = False) -> Numbers:
    model = load(folder, dtype, DEVICE)
    if compiled:
        model.unet.compile()
    step = look(model, sizes)
    seconds(step, WARM)
    return {"seconds": seconds(step, TIMES)}


@torch.no_grad()
def unet_share(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    return share(look(load(folder, dtype, DEVICE), sizes), dtype)


def share(step: Callable[[], object], dtype: torch.dtype) -> Numbers:
    """A step's seconds, and how much of the rate of plain matrix products it reaches, in per cent."""
    with FlopCounterMode(display=False) as counter:
        step()
    seconds(step, WARM)
    took = seconds(step, TIMES)
    return {"seconds": took, "share": 100 * counter.get_total_flops() / took / matrix_rate(dtype)}


def matrix_rate(dtype: torch.dtype, side: int = 8192) -> float:
    """Multiplications and additions a second, each counted, in the product of two square matrices."""
    a, b = (numbers(seed, side, side, dtype=dtype) for seed in (1, 2))
    seconds(lambda: a @ b, WARM)
    return 2 * side**3 / seconds(lambda: a @ b, TIMES)


@torch.no_grad()
def decode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae, side = load(folder, dtype, DEVICE).vae, sizes.side // sizes.config.vae.factor
    work = partial(vae.decode, numbers(1, 1, sizes.config.vae.latent_channels, side, side, dtype=dtype))
    seconds(work, WARM)
    return {"seconds": seconds(work, TIMES)}


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
    return {} if before is None or peak.bytes is None else {"memory": (peak.bytes - before) / 2**20}


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
def load_and_look(folder: Path, sizes: Sizes) -> Numbers:
    read_through(folder)
    begin = time.perf_counter()
    model = load(folder, torch.float32, DEVICE)
    loaded = time.perf_counter()
    seconds(look(model, sizes))
    return {"object": loaded - begin, "step": time.perf_counter() - begin}


def memory_in_use() -> int | None:
    """Of the card, if the work is done there; else this process's own."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else anonymous_memory()


def tokenize(folder: Path, sizes: Sizes) -> Numbers:
    tokenizer = Tokenizer.load(folder / "tokenizer")
    prompts = [PROMPT.format(i) for i in range(sizes.prompts)]
    tokenizer(prompts[0])
    took = seconds(lambda: [tokenizer(prompt) for prompt in prompts])
    return {"rate": len(prompts) / took}


def train(folder: Path, sizes: Sizes, compiled: bool = False) -> Numbers:
    """Steps as `ldm.train.diffusion` takes them: noise, forward, backward, clipped update."""
    torch.manual_seed(0)
    unet, batch, side = UNet(TINY.unet).to(DEVICE), sizes.batch, TINY.defaults.size // TINY.vae.factor
    attend_by_hand(unet)
    if compiled:
        unet.compile()
    optimizer = torch.optim.AdamW(unet.parameters(), fused=True)
    latents, eps = (numbers(seed, batch, 4, side, side) for seed in (1, 2))
    context = numbers(3, batch, TINY.text.context_length, TINY.text.width)
    t = torch.arange(batch, device=DEVICE) * TINY.noise.steps // batch

    def step() -> None:
        descend(unet, optimizer, diffusion_loss(unet, latents, t, eps, context, TINY.noise), 1e-4)

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
    "load": load_and_look,
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
    "cuda-unet-compiled": partial(unet_step, dtype=torch.float16, compiled=True),
    "cuda-unet-bfloat16": partial(unet_share, dtype=torch.bfloat16),
    "cuda-decode": partial(decode, dtype=torch.float16),
    "cuda-encode": partial(encode, dtype=torch.float16),
    "cuda-paint": partial(paint, dtype=torch.float16),
    "cuda-train": train,
}

if __name__ == "__main__":
    keep_heap()  # as the `ldm` command does
    answer(CASES)
