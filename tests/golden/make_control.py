r"""What diffusers answers for small ControlNets: `control.npz`. Part of `make golden`.

It does not import `ldm`. The networks alone read any hint; in whole runs of Stable Diffusion XL's pipeline, which keeps
a hint in float32, each colour of a pixel is 0 or 1.
"""

from functools import partial
from unittest import mock

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from tests.golden import make, make_sdxl

Arrays = dict[str, Tensor]

HINT, HINT_OF_RUNS = (4, 6, 8, 12), (4, 6)
POOL = "pool"  # a ControlNet of this name averages its outputs
RUNS = {
    "one": (("a",), {"controlnet_conditioning_scale": 0.7}),
    "window": (("a",), {"control_guidance_start": 0.3, "control_guidance_end": 0.7}),
    "guess": (("a",), {"guess_mode": True}),
    "pool": ((POOL,), {}),
    "two": (
        ("a", "b"),
        {
            "controlnet_conditioning_scale": [0.7, 1.3],
            "control_guidance_start": [0.0, 0.3],
            "control_guidance_end": [0.7, 1.0],
        },
    ),
}


def control(net: UNet2DConditionModel, hint: tuple[int, ...] = HINT, name: str = "a") -> ControlNetModel:
    r"""A ControlNet of a U-Net's sizes; other names, other weights."""
    found = ControlNetModel.from_unet(
        net, conditioning_embedding_out_channels=hint, load_weights_from_unet=False
    )
    found.register_to_config(global_pool_conditions=name == POOL)
    return make.randomise(found.double(), "" if name == "a" else f"{name}.")


def picture(seed: int) -> Image.Image:
    r"""Of 24 x 32 pixels, each colour 0 or 255."""
    bits = np.random.RandomState(seed).randint(0, 2, (32, 24, 3))
    return Image.fromarray((255 * bits).astype(np.uint8))


def exact_guess():
    r"""diffusers computes guess mode's weights in float32."""
    return mock.patch("torch.logspace", partial(torch.logspace, dtype=torch.float64))


def make_networks() -> Arrays:
    arrays, hint = {"t": torch.tensor([7, 981])}, make.numbers(31, 2, 3, 64, 96).abs()
    for kind in ("sd1", "sd2"):
        net = make.unet(**make.UNET_SIZES[kind])
        model = control(net)
        x_t, context = make.numbers(6, 2, 4, 8, 12), make.numbers(5, 2, 6, make.UNET_SIZES[kind]["context"])
        arrays |= {f"{kind}/x_t": x_t, f"{kind}/context": context}
        arrays[f"{kind}/sinusoids"] = model.time_proj(arrays["t"])
        for case, options in (
            ("plain", {}),
            ("half", {"conditioning_scale": 0.5}),
            ("guess", {"guess_mode": True}),
        ):
            with exact_guess():
                down, mid = model(x_t, arrays["t"], context, hint, return_dict=False, **options)
            # Of each a number for each image and channel: a mean that weighs the places differently.
            for i, residual in enumerate([*down, mid]):
                weights = make.numbers(40 + i, *residual.shape[2:])
                arrays[f"{kind}/{case}/{i}"] = (residual * weights).mean((2, 3))
    return arrays


def make_control_runs() -> Arrays:
    pipe, noise = make_sdxl.pipeline(), make.numbers(25, 2, 4, 16, 12)
    arrays = {"run/noise": noise}
    options = {"num_inference_steps": 3, "guidance_scale": 5.0, "height": 32, "width": 24}
    options |= {
        "prompt": "red dog",
        "negative_prompt": "dog",
        "num_images_per_prompt": 2,
        "output_type": "latent",
    }
    for name, (networks, chosen) in RUNS.items():
        nets = [control(pipe.unet, HINT_OF_RUNS, each) for each in networks]
        images = [picture(seed) for seed in range(len(nets))]
        alone = len(nets) == 1
        parts = {k: v for k, v in pipe.components.items() if k not in ("feature_extractor", "image_encoder")}
        steered = StableDiffusionXLControlNetPipeline(
            **parts, controlnet=nets[0] if alone else nets, add_watermarker=False
        )
        steered.set_progress_bar_config(disable=True)
        with exact_guess():
            arrays[f"run/{name}/latents"] = steered(
                image=images[0] if alone else images, latents=noise.clone(), **options, **chosen
            ).images
    return arrays


def make_control() -> Arrays:
    arrays: Arrays = {}
    with torch.no_grad(), make_sdxl.recorded_sinusoids(arrays):
        made = make_networks() | make_control_runs()
    return made | arrays
