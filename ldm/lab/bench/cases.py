"""The cases of the benchmark: each function measures one thing, in a process of its own (`fresh.py`)."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ldm.backend.allocator import keep_heap
from ldm.backend.int8 import use_int8
from ldm.backend.matmul import use_onednn_matmul
from ldm.config import TINY
from ldm.diffusion.conditioning import Conditioning
from ldm.diffusion.level import vp_level
from ldm.images.pixels import to_pixels
from ldm.lab.bench.fresh import Case, Numbers, main
from ldm.lab.bench.layers import by_kind, to_numbers
from ldm.lab.bench.stopwatch import (
    DEVICE,
    WARM,
    T,
    anonymous_memory,
    conv_flops,
    matmul_flops,
    memory_in_use,
    peak_memory,
    random_normal,
    read_through,
    seconds,
    timed,
    utilization,
)
from ldm.lab.bench.workload import PROMPT, Sizes
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.postcards import draw, sample_scene
from ldm.text.tokenizer import Tokenizer
from ldm.train.diffusion import diffusion_loss
from ldm.train.loop import optimizer_step, use_plain_attention
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles
from ldm.vae.vae import VAE

# For the tiny model: with random weights, no image is decided, and rounding changes little.
TINY_PROMPTS = [
    *(
        "a dog with glasses",
        "a red bird on a branch",
        "a lighthouse at night",
        "a cat with a hat in the snow",
    ),
    *("a green tree on a hill", "a portrait of a woman", "two blue flowers", "a house by the sea"),
]
Change = Callable[[LatentDiffusion], object]  # modifies a model before it is measured


def no_change(model: LatentDiffusion) -> None:
    """Leave the model as it was loaded."""


def compile_unet(model: LatentDiffusion) -> None:
    model.unet.compile()


def int8_unet(model: LatentDiffusion) -> None:
    use_int8(model.unet)


def evaluation(model: LatentDiffusion, sizes: Sizes, guidance: float | None = None) -> Callable[[], object]:
    """A function without arguments: one model evaluation with guidance, as in each sampling step."""
    config, side = sizes.config, sizes.side // sizes.config.vae.factor
    x_t = random_normal(1, 1, config.vae.latent_channels, side, side, dtype=model.sampling_dtype)
    context = random_normal(2, 2, config.text.context_length, config.text.width, dtype=model.dtype)
    cond, uncond = context.split(1)
    guidance = config.defaults.guidance if guidance is None else guidance
    denoise = model.denoiser(Conditioning(cond), Conditioning(uncond), guidance)
    return partial(denoise, x_t, vp_level(T, model.alpha_bar()))


@torch.no_grad()
def unet_step(folder: Path, sizes: Sizes, dtype: torch.dtype, change: Change = no_change) -> Numbers:
    model = load(folder, dtype, DEVICE)
    change(model)
    return timed(evaluation(model, sizes))


@torch.no_grad()
def unet_utilization(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    return utilization(evaluation(load(folder, dtype, DEVICE), sizes), dtype)


@torch.no_grad()
def peak(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    """What this machine can do: the GFLOP/s of a matrix product and of a convolution by torch's library."""
    return {"matmul": matmul_flops(dtype) / 1e9, "conv": conv_flops(dtype) / 1e9}


@torch.no_grad()
def unet_share(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    """A step's FLOP/s, as a percentage of a matrix product's: of the operations that the plain U-Net needs."""
    took = timed(evaluation(load(folder, dtype, DEVICE), sizes))["seconds"]
    return {"share": 100 * operations(sizes) / took / matmul_flops(dtype)}


@cache
def operations(sizes: Sizes, work: str = "unet") -> int:
    """The floating-point operations of a step of the plain U-Net ("unet") or of decoding ("decode"), whatever a faster
    implementation needs."""
    config, side = sizes.config, sizes.side // sizes.config.vae.factor
    with torch.device("meta"), FlopCounterMode(display=False) as counter:  # shapes alone
        if work == "decode":
            VAE(config.vae).decode(torch.empty(1, config.vae.latent_channels, side, side))
        else:
            x_t = torch.empty(2, config.unet.in_channels, side, side)
            context = torch.empty(2, config.text.context_length, config.text.width)
            UNet(config.unet)(x_t, torch.tensor(T), context)
    return counter.get_total_flops()


@torch.no_grad()
def unet_layers(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    """Where a step's time goes: the seconds and operations of each kind of layer, and the rate of a matrix product."""
    model = load(folder, dtype, DEVICE)
    step = evaluation(model, sizes)
    seconds(step, WARM)
    costs = by_kind(model.unet, step)
    whole = sum(cost.seconds for cost in costs.values())
    return {"matmul": matmul_flops(dtype), "seconds": whole} | to_numbers(costs)


def memory(before: int | None, peak: int | None) -> Numbers:
    """The increase over `before` in MiB; nothing where the system does not report memory."""
    return {} if before is None or peak is None else {"memory": (peak - before) / 2**20}


@torch.no_grad()
def decode(folder: Path, sizes: Sizes, dtype: torch.dtype, change: Change = no_change) -> Numbers:
    """Seconds, and the memory in MiB above that of the loaded model."""
    model, side = load(folder, dtype, DEVICE), sizes.side // sizes.config.vae.factor
    change(model)
    latent = random_normal(1, 1, sizes.config.vae.latent_channels, side, side, dtype=dtype)
    work = partial(model.vae.decode, latent)
    before = anonymous_memory()
    with peak_memory() as peak:
        found = timed(work)
    return found | memory(before, peak.bytes)


@torch.no_grad()
def encode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae = load(folder, dtype, DEVICE).vae
    return timed(
        partial(vae.encode, random_normal(1, 1, 3, sizes.side, sizes.side, dtype=dtype).clamp(-1, 1))
    )


@torch.no_grad()
def tiles(folder: Path, sizes: Sizes, way: str) -> Numbers:
    """The memory, in MiB above the loaded model's, to decode or encode an image of twice the side in tiles."""
    model, side = load(folder, device=DEVICE), 2 * sizes.side
    latent_side, channels = side // model.vae.factor, sizes.config.vae.latent_channels
    latent = random_normal(1, 1, channels, latent_side, latent_side, dtype=model.dtype)
    pixels = random_normal(1, 1, 3, side, side, dtype=model.dtype).clamp(-1, 1)
    before = anonymous_memory()
    with peak_memory() as peak:
        if way == "decode":
            decode_in_tiles(model.vae, latent)
        else:
            encode_in_tiles(model.vae, pixels)
    return memory(before, peak.bytes)


@torch.no_grad()
def seams(folder: Path, sizes: Sizes) -> Numbers:
    """The mean difference, out of 255, between decoding in tiles and as a whole, with the tiny model."""
    vae, side = load("tiny", torch.float32, DEVICE).vae, 2 * sizes.side
    rng = np.random.default_rng(0)
    drawing = draw(sample_scene(rng), rng, side)
    latent, _ = vae.encode(to_pixels([drawing]).to(DEVICE))
    whole, tiled = (decoded.clamp(-1, 1) for decoded in (vae.decode(latent), decode_in_tiles(vae, latent)))
    return {"difference": 127.5 * float((tiled - whole).abs().mean())}


def text_to_image(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    """A whole image: the seconds of generation, and the memory of loading and generation."""
    size = sizes.side, sizes.side
    with peak_memory(memory_in_use) as peak:
        generate = load(folder, dtype, DEVICE).generate
        took = seconds(
            partial(generate, PROMPT.format(0), seed=0, sampler="ddim", steps=sizes.steps, size=size)
        )
    return {"seconds": took} | memory(0, peak.bytes)


def rounding(folder: Path, sizes: Sizes) -> Numbers:
    """The mean difference, out of 255, between an image generated in bfloat16 and in float32, at half the side."""

    def generate(dtype: torch.dtype) -> np.ndarray:
        model, size = load(folder, dtype, DEVICE), (sizes.side // 2, sizes.side // 2)
        [image] = model.generate(PROMPT.format(0), seed=0, sampler="ddim", steps=sizes.steps, size=size)
        return np.asarray(image, dtype=np.float64)

    return {"difference": float(np.abs(generate(torch.bfloat16) - generate(torch.float32)).mean())}


def rounding_int8(folder: Path, sizes: Sizes) -> Numbers:
    """The mean difference, out of 255, between the tiny model's images and float32's: in bfloat16, and in 8 bits."""
    prompts = TINY_PROMPTS[: sizes.batches[-1]]
    seeds = range(0, 4 * len(prompts), len(prompts))  # of sets of images, since single ones differ a lot

    def generate(dtype: torch.dtype, change: Change = no_change) -> np.ndarray:
        model = load("tiny", dtype, DEVICE)
        change(model)
        sets = [model.generate(prompts, seed=seed, sampler="ddim", steps=sizes.steps) for seed in seeds]
        return np.asarray([np.asarray(image, dtype=np.float64) for images in sets for image in images])

    exact = generate(torch.float32)
    changes = {"bfloat16": no_change, "int8": int8_unet}
    return {
        name: float(np.abs(generate(torch.bfloat16, change) - exact).mean())
        for name, change in changes.items()
    }


@torch.no_grad()
def load_and_evaluate(folder: Path, sizes: Sizes, dtype: torch.dtype | None = torch.float32) -> Numbers:
    """Seconds to the loaded model and to the end of its first evaluation. `dtype` None: the one that `load` picks."""
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
    return {"rate": len(prompts) / seconds(lambda: [tokenizer(prompt) for prompt in prompts])}


def train(
    folder: Path, sizes: Sizes, compiled: bool = False, by_hand: bool = True, fused: bool = True
) -> Numbers:
    """Training steps as in `ldm.train.diffusion`: noise, forward, backward, clipped update."""
    torch.manual_seed(0)
    unet, batch, side = UNet(TINY.unet).to(DEVICE), sizes.batch, TINY.defaults.size // TINY.vae.factor
    if by_hand:
        use_plain_attention(unet)
    if compiled:
        unet.compile()
    optimizer = torch.optim.AdamW(unet.parameters(), fused=fused)
    latents, eps = (random_normal(seed, batch, 4, side, side) for seed in (1, 2))
    context = random_normal(3, batch, TINY.text.context_length, TINY.text.width)
    t = torch.arange(batch, device=DEVICE) * TINY.noise.steps // batch

    def step() -> None:
        optimizer_step(unet, optimizer, diffusion_loss(unet, latents, t, eps, context, TINY.noise), 1e-4)

    return timed(step, sizes.training)


def shell(*arguments: str) -> float:
    """The seconds that an `ldm` command takes."""
    command = [sys.executable, "-m", "ldm", *arguments]
    return seconds(partial(subprocess.run, command, check=True, capture_output=True))


def generate_command(folder: Path, sizes: Sizes) -> Numbers:
    with tempfile.TemporaryDirectory() as place:
        options = ["--model", "tiny", "--seed", "0", "--out", f"{place}/dog.png"]
        return {"seconds": shell("generate", "a dog with glasses", *options)}


def four_steps(folder: Path, sizes: Sizes) -> Numbers:
    """A whole image by the program, with as few evaluations as a latent consistency model needs."""
    few = ["--sampler", "lcm", "--steps", "4", "--guidance", "1", "--size", f"{sizes.side}x{sizes.side}"]
    with tempfile.TemporaryDirectory() as place:
        options = ["--model", str(folder), *few, "--seed", "0", "--out", f"{place}/image.png"]
        return {"seconds": shell("generate", PROMPT.format(0), *options)}


def start(folder: Path, sizes: Sizes) -> Numbers:
    timed = "import time; begin = time.perf_counter(); import ldm; print(time.perf_counter() - begin)"
    done = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True)
    return {"import": float(done.stdout), "help": shell("--help")}


def throughput(folder: Path, sizes: Sizes) -> Numbers:
    """Images of the tiny model per second, at several batch sizes."""
    model = load("tiny", device=DEVICE)
    model.generate("a dog", seed=0, steps=1)
    return {
        str(batch): batch / seconds(partial(model.generate, "a dog with glasses", seed=0, batch=batch))
        for batch in sizes.batches
    }


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
    "rounding": rounding,
    "rounding-int8": rounding_int8,
    "load": load_and_evaluate,
    "load-default": partial(load_and_evaluate, dtype=None),
    "tokenizer": tokenize,
    "train": train,
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
    *(Row(f"images of the tiny model, batch {n}", "throughput", str(n), "/s") for n in (1, 2, 4, 8)),
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
