"""Cases of one network: the U-Net's step, the VAE, a training step, and what the machine itself can do."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ldm.backend.int8 import use_int8
from ldm.config import TINY
from ldm.diffusion.conditioning import Conditioning
from ldm.diffusion.level import vp_level
from ldm.images.pixels import to_pixels
from ldm.lab.bench.fresh import Numbers
from ldm.lab.bench.layers import by_kind, to_numbers
from ldm.lab.bench.stopwatch import (
    DEVICE,
    WARM,
    T,
    anonymous_memory,
    conv_flops,
    matmul_flops,
    peak_memory,
    random_normal,
    seconds,
    timed,
    utilization,
)
from ldm.lab.bench.workload import Sizes
from ldm.loading import load
from ldm.pipeline import LatentDiffusion
from ldm.postcards import draw, sample_scene
from ldm.train.diffusion import diffusion_loss
from ldm.train.loop import mixed_precision, optimizer_step, use_plain_attention
from ldm.unet.unet import UNet
from ldm.vae.tiles import decode_in_tiles, encode_in_tiles
from ldm.vae.vae import VAE

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


def training_step(
    sizes: Sizes, compiled: bool = False, by_hand: bool = True, fused: bool = True
) -> Callable[[], None]:
    """A training step as in `ldm.train.diffusion`: noise, forward, backward, clipped update."""
    torch.manual_seed(0)
    unet, batch, side = UNet(TINY.unet).to(DEVICE), sizes.batch, TINY.defaults.size // TINY.vae.factor
    if by_hand:
        use_plain_attention(unet)
    if compiled:
        unet.compile()
    optimizer = torch.optim.AdamW(unet.parameters(), fused=fused)
    latents, eps = (random_normal(seed, batch, TINY.vae.latent_channels, side, side) for seed in (1, 2))
    context = random_normal(3, batch, TINY.text.context_length, TINY.text.width)
    t = torch.arange(batch, device=DEVICE) * TINY.noise.steps // batch

    def step() -> None:
        optimizer_step(unet, optimizer, diffusion_loss(unet, latents, t, eps, context, TINY.noise), 1e-4)

    return step


def train(folder: Path, sizes: Sizes, **how: bool) -> Numbers:
    """The seconds of a training step of the tiny U-Net; `how` are the options of `training_step`."""
    return timed(training_step(sizes, **how), sizes.training)


def train_share(folder: Path, sizes: Sizes) -> Numbers:
    """A training step's FLOP/s, as a percentage of a matrix product's."""
    with mixed_precision():
        dtype = torch.get_autocast_dtype(DEVICE) if torch.is_autocast_enabled(DEVICE) else torch.float32
    return {"share": utilization(training_step(sizes), dtype, sizes.training)["share"]}
