r"""Records figures of small models in the format of `ldm/lab/verify/figures.json`, into `figures.json` beside this
script.

Nobody here has the weights that the published figures are for. So the same kinds of figures are measured with the
reference library on small models with the weights of `weights.py`: the program that compares must find that the same
small model built from `ldm` agrees, and that a spoilt one does not. `make golden` runs this; it does not import `ldm`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler  # without scipy: see make.py
from torch import Tensor

from tests.golden import make

FIGURES = Path(__file__).resolve().parent / "figures.json"
SCALE = 0.18215
TEXT = {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}
TEXT |= {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406}
UNET = {"channels": (16, 32), "heads": (4, 4), "depths": (1, 0), "context": 32, "blocks": 1, "linear": False}
VAE = {"block_out_channels": (16, 32), "layers_per_block": 1, "scaling_factor": SCALE}
# As CLIP's tokenizer reads them: begin, the words, and the end mark up to 77.
PROMPTS = {
    "a photograph of an astronaut riding a horse": (320, 8853, 539, 550, 18376, 6765, 320, 4558),
    "A painting of a squirrel eating a burger": (320, 3086, 539, 320, 14004, 4371, 320, 6548),
    "": (),
}
ASTRONAUT, SQUIRREL, _ = PROMPTS
FILES = {"pixels.npy": 33, "context.npy": 35}  # and the seed of what is in each
# The settings of Stable Diffusion's own scheduler; the others are made from them, as in the published tests.
SCHEDULER = {"beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False}
SCHEDULER |= {"skip_prk_steps": True, "steps_offset": 1, **make.BETAS}
SAMPLERS = {
    "plms": PNDMScheduler,
    "ddim": DDIMScheduler,
    "lms": LMSDiscreteScheduler,
    "euler": EulerDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}


def numbers(recipe: Mapping[str, Any]) -> Tensor:
    r"""What a recipe asks for, in float64. A file's are those of a seed, so that a test can write it."""
    if recipe["from"] == "torch":
        return torch.randn(recipe["shape"], generator=torch.Generator().manual_seed(recipe["seed"])).double()
    seed = recipe["seed"] if recipe["from"] == "numpy" else FILES[recipe["name"]]
    return make.numbers(seed, *recipe["shape"])


def vae() -> AutoencoderKL:
    return make.randomise(make.vae(**VAE).double())


def decode(latent: Tensor, scale: float) -> Tensor:
    return vae().decode(latent).sample


def encode(pixels: Tensor, scale: float, noise: Tensor | None = None) -> Tensor:
    gaussian = vae().encode(pixels).latent_dist
    return gaussian.mean if noise is None else gaussian.mean + gaussian.std * noise


def round_trip(pixels: Tensor, scale: float, noise: Tensor | None = None) -> Tensor:
    return decode(encode(pixels, scale, noise), scale)


def unet(x_t: Tensor, t: int, context: Tensor) -> Tensor:
    return make.randomise(make.unet(**UNET).double())(x_t, t, context).sample


def context(encoder: torch.nn.Module, prompt: str) -> Tensor:
    ids = [49406, *PROMPTS[prompt]]
    return encoder(torch.tensor([ids + [49407] * (77 - len(ids))])).last_hidden_state


def paint(
    prediction: str,
    x_T: Tensor,
    prompt: str,
    sampler: str,
    steps: int,
    after: int | None = None,
    last: str = "sampler",
) -> Tensor:
    r"""A picture as `StableDiffusionPipeline` paints it, or the latent after some strides."""
    options = {"prediction_type": make.PREDICTIONS[prediction]}
    if last == "first":
        options["final_sigmas_type"] = "sigma_min"
    encoder = make.randomise(make.text_encoder("quick_gelu", **TEXT).double(), "text_model.")
    pipeline = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=encoder,
        tokenizer=None,  # the ids are above
        unet=make.randomise(make.unet(**UNET).double()),
        scheduler=SAMPLERS[sampler].from_config(SCHEDULER, **options),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    path = []

    def watch(pipeline: object, i: int, t: object, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        path.append(seen["latents"])
        return seen

    picture = pipeline(
        prompt_embeds=context(encoder, prompt),
        negative_prompt_embeds=context(encoder, ""),
        latents=x_T,
        height=2 * x_T.shape[2],
        width=2 * x_T.shape[3],
        num_inference_steps=steps,
        guidance_scale=7.5,
        output_type="np",
        callback_on_step_end=watch,
    ).images
    # PLMS begins with two looks for its first stride.
    return torch.from_numpy(picture) if after is None else path[after - 1 + (sampler == "plms")]


COMPONENTS: dict[str, Callable[..., Tensor]] = {
    "vae.decode": decode,
    "vae.encode": encode,
    "vae.round_trip": round_trip,
    "unet": unet,
}


def recipe(seed: int, *shape: int) -> dict[str, Any]:
    return {"from": "numpy", "seed": seed, "shape": list(shape)}


def file(name: str, *shape: int) -> dict[str, Any]:
    return {"from": "file", "name": name, "shape": list(shape)}


def cases() -> list[dict[str, Any]]:
    r"""Each kind of published figure, once or more: without what is measured."""
    both, scale, noise = ["small-eps", "small-v"], {"scale": SCALE}, {"noise": recipe(34, 2, 4, 8, 8)}
    pixels, context = file("pixels.npy", 2, 3, 16, 16), file("context.npy", 2, 77, 32)
    parts: list[tuple[list[str], str, str, dict[str, Any]]] = [
        (both, "vae.decode", "-1, -2:, :2, -2:", {"latent": recipe(13, 3, 4, 8, 8), **scale}),
        (both, "vae.encode", "0, -1, -3:, -3:", {"pixels": pixels, **scale, **noise}),
        (both, "vae.round_trip", "-1, -2:, -2:, :2", {"pixels": pixels, **scale}),
        (both, "vae.round_trip", "-1, -2:, -2:, :2", {"pixels": pixels, **scale, **noise}),
        (both, "unet", "-1, -2:, -2:, :2", {"x_t": recipe(36, 2, 4, 8, 8), "t": 4, "context": context}),
    ]
    start = {"x_T": recipe(0, 1, 4, 8, 8), "prompt": ASTRONAUT, "steps": 3}
    for sampler, options in (("plms", {}), ("ddim", {}), ("lms", {}), ("dpmpp_2m", {"last": "first"})):
        inputs = {**start, "sampler": sampler, **options}
        parts.append((["small-eps"], "image", "0, -3:, -3:, -1", inputs))
    for after in (1, 2):
        inputs = {**start, "sampler": "plms", "after": after}
        parts.append((["small-eps"], "latent", "0, -3:, -3:, -1", inputs))
    start = {"x_T": {"from": "torch", "seed": 0, "shape": [1, 4, 8, 12]}, "prompt": SQUIRREL}
    for sampler, steps, options in (("ddim", 20, {}), ("euler", 5, {}), ("dpmpp_2m", 5, {"last": "first"})):
        inputs = {**start, "sampler": sampler, "steps": steps, **options}
        parts.append((["small-v"], "image", "0, 3:6, 3:6, -1", inputs))
    for after in (1, 20):
        inputs = {**start, "sampler": "ddim", "steps": 20, "after": after}
        parts.append((["small-v"], "latent", "0, -3:, -3:, -1", inputs))
    return [
        {"name": f"{component}, number {i}", "releases": releases, "component": component, "part": part}
        | {"inputs": inputs, "tolerance": 1e-4, "source": make.VERSIONS}
        for i, (releases, component, part, inputs) in enumerate(parts)
    ]


def measure(case: Mapping[str, Any]) -> list[float]:
    inputs = {k: numbers(v) if isinstance(v, dict) else v for k, v in case["inputs"].items()}
    if case["component"] in COMPONENTS:
        output = COMPONENTS[case["component"]](**inputs)
    else:
        output = paint(case["releases"][0].removeprefix("small-"), **inputs)
    index = eval(f"np.s_[{case['part']}]", {"np": np})
    return [round(x, 5) for x in output[index].flatten().tolist()]


def make_figures() -> dict[str, Any]:
    releases = {name: {"family": name, "repository": "tests/golden"} for name in ("small-eps", "small-v")}
    return {"releases": releases, "figures": [case | {"expected": measure(case)} for case in cases()]}


@torch.no_grad()
def save_figures() -> None:
    found = make_figures()
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{FIGURES.name}: {len(found['figures'])} figures")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save_figures()
