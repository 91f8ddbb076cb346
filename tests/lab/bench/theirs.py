r"""The cases of `ldm/lab/bench/cases.py` in diffusers, with its default settings."""

import time
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from torch import Tensor, nn

from ldm.checkpoints.settings import settings_of
from ldm.config import TINY, NoiseConfig
from ldm.diffusion.noise import noise_source
from ldm.diffusion.schedule import add_noise, make_alpha_bar
from ldm.lab.bench.fresh import Case, Numbers, main
from ldm.lab.bench.stopwatch import (
    DEVICE,
    TIMES,
    WARM,
    T,
    memory_in_use,
    peak_memory,
    random_normal,
    read_through,
    seconds,
    utilization,
)
from ldm.lab.bench.workload import PROMPT, Sizes
from ldm.train.loop import mixed_precision


def load(folder: Path, dtype: torch.dtype) -> diffusers.StableDiffusionPipeline:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=dtype, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(DEVICE)


def evaluation(unet: nn.Module, sizes: Sizes, dtype: torch.dtype):
    r"""One model evaluation with guidance, both predictions in one batch, as in the pipeline's loop."""
    config, side = sizes.config, sizes.side // sizes.config.vae.factor
    x_t = random_normal(1, 1, config.vae.latent_channels, side, side, dtype=dtype)
    cond, uncond = random_normal(2, 2, config.text.context_length, config.text.width, dtype=dtype).split(1)
    context, t = torch.cat([uncond, cond]), torch.tensor(T, device=DEVICE)

    def step() -> Tensor:
        out = unet(torch.cat([x_t] * 2), t, encoder_hidden_states=context, return_dict=False)[0]
        without, with_prompt = out.chunk(2)
        return without + config.defaults.guidance * (with_prompt - without)

    return step


@torch.no_grad()
def unet_step(folder: Path, sizes: Sizes, dtype: torch.dtype, compiled: bool = False) -> Numbers:
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype).to(DEVICE)
    if compiled:  # its best, by its own manual
        unet.to(memory_format=torch.channels_last)
        unet.compile(mode="max-autotune", fullgraph=True)
    step = evaluation(unet, sizes, dtype)
    seconds(step, WARM)
    return {"seconds": seconds(step, TIMES)}


@torch.no_grad()
def unet_utilization(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype).to(DEVICE)
    return utilization(evaluation(unet, sizes, dtype), dtype)


def vae_of(folder: Path, dtype: torch.dtype) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype).to(DEVICE)


@torch.no_grad()
def decode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae, side = vae_of(folder, dtype), sizes.side // sizes.config.vae.factor
    latent = random_normal(1, 1, sizes.config.vae.latent_channels, side, side, dtype=dtype)
    work = partial(vae.decode, latent / vae.config.scaling_factor)
    seconds(work, WARM)
    return {"seconds": seconds(work, TIMES)}


@torch.no_grad()
def encode(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    vae = vae_of(folder, dtype)
    work = partial(vae.encode, random_normal(1, 1, 3, sizes.side, sizes.side, dtype=dtype).clamp(-1, 1))
    seconds(work, WARM)
    return {"seconds": seconds(work, TIMES)}


def text_to_image(folder: Path, sizes: Sizes, dtype: torch.dtype) -> Numbers:
    with peak_memory(memory_in_use) as peak:
        pipeline = load(folder, dtype)  # with the DDIM scheduler that the folder names
        took = seconds(
            partial(
                pipeline,
                PROMPT.format(0),
                generator=torch.Generator().manual_seed(0),
                num_inference_steps=sizes.steps,
                guidance_scale=sizes.config.defaults.guidance,
                width=sizes.side,
                height=sizes.side,
            )
        )
    found = {"seconds": took}
    return found if peak.bytes is None else found | {"memory": peak.bytes / 2**20}


def rounding(folder: Path, sizes: Sizes) -> Numbers:
    config, side = sizes.config, sizes.side // 2
    shape = (config.vae.latent_channels, side // config.vae.factor, side // config.vae.factor)
    noise = noise_source([0], shape, torch.float32, "cpu")()  # as ours starts from

    def generate(dtype: torch.dtype) -> np.ndarray:
        options = {"num_inference_steps": sizes.steps, "guidance_scale": config.defaults.guidance}
        given = {"latents": noise.to(dtype), "width": side, "height": side, "output_type": "np"}
        [image] = load(folder, dtype)(PROMPT.format(0), **options, **given).images
        return np.asarray(image, dtype=np.float64)

    return {"difference": 255 * float(np.abs(generate(torch.bfloat16) - generate(torch.float32)).mean())}


@torch.no_grad()
def load_and_evaluate(folder: Path, sizes: Sizes) -> Numbers:
    read_through(folder)
    # These names import what stands behind them; importing is not what is measured here.
    assert diffusers.StableDiffusionPipeline and transformers.CLIPTextModel and transformers.CLIPTokenizer
    assert diffusers.UNet2DConditionModel and diffusers.AutoencoderKL and diffusers.DDIMScheduler
    begin = time.perf_counter()
    pipeline = load(folder, torch.float32)
    loaded = time.perf_counter()
    seconds(evaluation(pipeline.unet, sizes, torch.float32))
    return {"object": loaded - begin, "step": time.perf_counter() - begin}


def tokenize(folder: Path, sizes: Sizes) -> Numbers:
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert tokenizer.is_fast
    prompts = [PROMPT.format(i) for i in range(sizes.prompts)]

    def ids(prompt: str) -> Tensor:
        options = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
        return tokenizer(prompt, **options).input_ids

    ids(prompts[0])
    took = seconds(lambda: [ids(prompt) for prompt in prompts])
    return {"rate": len(prompts) / took}


def train(folder: Path, sizes: Sizes) -> Numbers:
    r"""The same steps in the same number formats: what differs is the U-Net, and how it is written."""
    torch.manual_seed(0)
    settings = settings_of(TINY, linear_projection=False)["unet"]
    unet = diffusers.UNet2DConditionModel.from_config(settings).to(DEVICE)
    optimizer = torch.optim.AdamW(unet.parameters())
    batch, side = sizes.batch, TINY.defaults.size // TINY.vae.factor
    latents, eps = (random_normal(seed, batch, TINY.vae.latent_channels, side, side) for seed in (1, 2))
    context = random_normal(3, batch, TINY.text.context_length, TINY.text.width)
    t = torch.arange(batch, device=DEVICE) * TINY.noise.steps // batch
    x_t = add_noise(latents, eps, make_alpha_bar(NoiseConfig()).to(DEVICE)[t])

    def step() -> None:
        with mixed_precision():
            out = unet(x_t, t, encoder_hidden_states=context, return_dict=False)[0]
        loss = nn.functional.mse_loss(out.float(), eps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()

    seconds(step, WARM)
    return {"seconds": seconds(step, sizes.training)}


CASES: dict[str, Case] = {
    "unet-bfloat16": partial(unet_step, dtype=torch.bfloat16),
    "unet-float32": partial(unet_step, dtype=torch.float32),
    "decode-bfloat16": partial(decode, dtype=torch.bfloat16),
    "decode-float32": partial(decode, dtype=torch.float32),
    "encode-bfloat16": partial(encode, dtype=torch.bfloat16),
    "paint-bfloat16": partial(text_to_image, dtype=torch.bfloat16),
    "paint-float32": partial(text_to_image, dtype=torch.float32),
    "rounding": rounding,
    "load": load_and_evaluate,
    "load-default": load_and_evaluate,  # diffusers' default is float32
    "tokenizer": tokenize,
    "train": train,
    "cuda-unet": partial(unet_step, dtype=torch.float16),
    "cuda-unet-compiled": partial(unet_step, dtype=torch.float16, compiled=True),
    "cuda-unet-bfloat16": partial(unet_utilization, dtype=torch.bfloat16),
    "cuda-decode": partial(decode, dtype=torch.float16),
    "cuda-encode": partial(encode, dtype=torch.float16),
    "cuda-paint": partial(text_to_image, dtype=torch.float16),
    "cuda-train": train,
}

if __name__ == "__main__":
    main(CASES)
