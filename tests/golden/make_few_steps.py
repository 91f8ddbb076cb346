r"""What diffusers answers for models of few steps: `few_steps.npz`. Part of `make golden`.

The small Stable Diffusion XL of `make_sdxl.py`, sampled as the model cards of distilled models say. It does not import
`ldm`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
    TCDScheduler,
    UNet2DConditionModel,
)
from torch import Tensor

from tests.golden import make
from tests.golden.make_sdxl import NOISE, Arrays, pipeline, recorded_sinusoids, unet

TOLD = 12  # the width of the sinusoids of the guidance scale
FIRST_NOISE = 3000  # the seed of the noise that the first step adds
# As in the scheduler's config of Stable Diffusion XL, from which the cards make theirs.
OPTIONS = NOISE | {"steps_offset": 1}
DDIM = {"clip_sample": False, "set_alpha_to_one": False}
# How each is sampled: the scheduler, what the pipeline is given, and whether its U-Net is told the guidance.
RUNS: dict[str, tuple[Callable[[], Any], dict[str, Any], bool]] = {
    "lcm": (lambda: LCMScheduler(**OPTIONS), {"num_inference_steps": 4, "guidance_scale": 8.0}, True),
    "lcm, faint": (lambda: LCMScheduler(**OPTIONS), {"num_inference_steps": 2, "guidance_scale": 1.3}, True),
    "lcm-lora": (lambda: LCMScheduler(**OPTIONS), {"num_inference_steps": 4, "guidance_scale": 0}, False),
    "lcm-lora, guided": (
        lambda: LCMScheduler(**OPTIONS),
        {"num_inference_steps": 2, "guidance_scale": 1.5, "negative_prompt": "dog"},
        False,
    ),
    "lightning": (
        lambda: EulerDiscreteScheduler(**OPTIONS, timestep_spacing="trailing"),
        {"num_inference_steps": 4, "guidance_scale": 0},
        False,
    ),
    "lightning, 1 step": (
        lambda: EulerDiscreteScheduler(**OPTIONS, timestep_spacing="trailing", prediction_type="sample"),
        {"num_inference_steps": 1, "guidance_scale": 0},
        False,
    ),
    "turbo": (
        lambda: EulerAncestralDiscreteScheduler(**OPTIONS, timestep_spacing="trailing"),
        {"num_inference_steps": 1, "guidance_scale": 0},
        False,
    ),
    "turbo, 4 steps": (
        lambda: EulerAncestralDiscreteScheduler(**OPTIONS, timestep_spacing="trailing"),
        {"num_inference_steps": 4, "guidance_scale": 0},
        False,
    ),
    "hyper": (
        lambda: DDIMScheduler(**OPTIONS, **DDIM, timestep_spacing="trailing"),
        {"num_inference_steps": 4, "guidance_scale": 0},
        False,
    ),
    "tcd": (
        lambda: TCDScheduler(**OPTIONS, **DDIM),
        {"num_inference_steps": 4, "guidance_scale": 0, "eta": 0.3},
        False,
    ),
    "dmd2": (
        lambda: LCMScheduler(**OPTIONS),
        {"timesteps": [999, 749, 499, 249], "guidance_scale": 0},
        False,
    ),
}


def exact(scheduler: Any) -> Any:
    r"""The scheduler in float64 throughout, with the noise of `make.numbers`: the same for every run."""
    for name in ("alphas_cumprod", "final_alpha_cumprod"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    module, drawn = type(scheduler).__module__, iter(range(FIRST_NOISE, FIRST_NOISE + 100))

    def noise(shape: tuple[int, ...], **_: object) -> Tensor:
        return make.numbers(next(drawn), *shape)

    def in_float64(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)  # the pipeline looks at the names of its arguments
        def exactly(*arguments: Any, **named: Any) -> Any:
            with make.no_float32(), mock.patch(f"{module}.randn_tensor", noise, create=True):
                return call(*arguments, **named)

        return exactly

    scheduler.set_timesteps, scheduler.step = map(in_float64, (scheduler.set_timesteps, scheduler.step))
    return scheduler


@contextmanager
def recorded_guidance(arrays: Arrays) -> Iterator[None]:
    r"""Keep what becomes of each guidance scale: sinusoids of float32, as those of the time."""
    original, seen = StableDiffusionXLPipeline.get_guidance_scale_embedding, {}

    def record(self: object, w: Tensor, embedding_dim: int = 512, **named: object) -> Tensor:
        found = original(self, w, embedding_dim, **named)
        seen.update(zip(w.tolist(), found))
        return found

    with mock.patch.object(StableDiffusionXLPipeline, "get_guidance_scale_embedding", record):
        yield
    arrays["guidance/of"] = torch.tensor(list(seen))
    arrays["guidance"] = torch.stack(list(seen.values()))


def told_unet() -> UNet2DConditionModel:
    r"""The small U-Net of Stable Diffusion 1 of `make.py`, told the guidance."""
    config = make.unet(**make.UNET_SIZES["sd1"]).config
    model = UNet2DConditionModel.from_config(config, time_cond_proj_dim=TOLD)
    return make.randomise(model.double())


def make_few_steps() -> Arrays:
    arrays: Arrays = {}
    noise, found = make.numbers(25, 2, 4, 16, 12), {}
    with torch.no_grad(), recorded_sinusoids(arrays), recorded_guidance(arrays):
        pipe = pipeline()
        told, usual = unet(told=TOLD), pipe.unet
        for name, (build, options, is_told) in RUNS.items():
            pipe.scheduler, pipe.unet = exact(build()), told if is_told else usual
            found[f"run/{name}"] = pipe(
                "red dog",
                **options,
                latents=noise.clone(),
                num_images_per_prompt=2,
                height=32,
                width=24,
                output_type="latent",
            ).images
        w = torch.tensor([6.5, -0.25])
        embedded = pipe.get_guidance_scale_embedding(w, TOLD)
        x_t, times = make.numbers(6, 2, 4, 8, 12), torch.tensor([7, 981])
        context = make.numbers(5, 2, 6, make.UNET_SIZES["sd1"]["context"])
        out = told_unet()(x_t, times, context, timestep_cond=embedded.double()).sample
        found |= {"unet/x_t": x_t, "unet/t": times, "unet/context": context, "unet/w": w, "unet/out": out}
    return {"run/noise": noise} | found | arrays
