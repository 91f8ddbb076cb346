r"""Makes the golden files beside this script: what the reference libraries answer.

    make golden        (or: python tests/golden/make.py, with diffusers and transformers installed)

It does not import `ldm`. The models are small, in float64, with the weights of `weights.py`; each file holds
the inputs and outputs of its cases as arrays named "case/array", and under "made_with" the versions used.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    TCDScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_lms_discrete
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs from anywhere
from tests.golden import loras
from tests.golden.watching import packed, watched
from tests.golden.weights import draw

FOLDER = Path(__file__).resolve().parent
VERSIONS = (
    f"diffusers {diffusers.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
)

Arrays = dict[str, Tensor]


def randomise(model: nn.Module, prefix: str = "") -> nn.Module:
    r"""Fill a model from `draw`, in place and in its own dtype.

    `prefix` is put before names that lack it: transformers 5 names a CLIP half without, older versions with.
    """
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            full = name if name.startswith(prefix) else prefix + name
            tensor.copy_(torch.from_numpy(draw(full, tensor.shape)))
    return model.eval().requires_grad_(False)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


# --- text and pictures -------------------------------------------------------------------------------------

TEXT_SIZES = {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 3}
TEXT_SIZES |= {"vocab_size": 60, "max_position_embeddings": 11, "bos_token_id": 58, "eos_token_id": 2}
IMAGE_SIZES = {"hidden_size": 48, "intermediate_size": 192, "num_attention_heads": 3, "num_hidden_layers": 2}
IMAGE_SIZES |= {"image_size": 24, "patch_size": 8, "projection_dim": 20}
# Two prompts of unlike length; 59, the largest id, ends a text and pads it.
IDS = [[58, 7, 3, 21, 59, 59, 59, 59, 59, 59, 59], [58, 40, 41, 42, 43, 7, 7, 2, 11, 30, 59]]


def text_encoder(activation: str, **sizes: int) -> nn.Module:
    config = transformers.CLIPTextConfig(**(TEXT_SIZES | sizes), hidden_act=activation)
    return transformers.CLIPTextModel(config)


def make_text() -> Arrays:
    r"""All states of a text, from the last layer and from the one before it; both then normalised."""
    ids = torch.tensor(IDS)
    last = randomise(text_encoder("quick_gelu").double(), "text_model.")
    other = randomise(text_encoder("gelu").double(), "text_model.")
    inner = getattr(other, "text_model", other)  # transformers 5 has no inner model
    before = other(ids, output_hidden_states=True).hidden_states[-2]
    return {
        "last/ids": ids,
        "last/states": last(ids).last_hidden_state,
        "last/short": last(ids[:, :6]).last_hidden_state,
        "penultimate/ids": ids,
        "penultimate/states": inner.final_layer_norm(before),
    }


def clip(activation: str, text: dict[str, int], image: dict[str, int]) -> nn.Module:
    config = transformers.CLIPConfig(
        text_config=text | {"hidden_act": activation},
        vision_config=image | {"hidden_act": activation},
        projection_dim=image["projection_dim"],
    )
    return transformers.CLIPModel(config)


def make_clip() -> Arrays:
    r"""Both halves of CLIP, their embeddings, and the logits of each picture for each text."""
    ids, pixels = torch.tensor(IDS), numbers(1, 3, 3, 24, 24)
    arrays = {"ids": ids, "pixels": pixels}
    for activation in ("quick_gelu", "gelu"):
        model = randomise(clip(activation, TEXT_SIZES, IMAGE_SIZES).double())
        out = model(input_ids=ids, pixel_values=pixels)
        arrays |= {
            f"{activation}/pooled": model.vision_model(pixels).pooler_output,
            f"{activation}/image": out.image_embeds,
            f"{activation}/text": out.text_embeds,
            f"{activation}/logits": out.logits_per_image,
        }
    return arrays


# --- the VAE -----------------------------------------------------------------------------------------------

VAE_SIZES = {
    "sd": {"block_out_channels": (16, 32, 48, 48), "layers_per_block": 2, "scaling_factor": 0.18215},
    "tiny": {"block_out_channels": (16, 32, 48), "layers_per_block": 1, "scaling_factor": 1.0},
}


def vae(block_out_channels: tuple[int, ...], groups: int = 8, **sizes: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
        up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
        norm_num_groups=groups,
        latent_channels=4,
        **sizes,
    )


def make_vae() -> Arrays:
    r"""Unscaled mean and log-variance of an even, an odd and a faint input; a decoded, unscaled latent."""
    arrays = {}
    for kind, sizes in VAE_SIZES.items():
        model = randomise(vae(**sizes).double())
        inputs = {"even": numbers(2, 1, 3, 32, 16), "odd": numbers(3, 2, 3, 27, 21)}
        inputs["faint"] = 1e-3 * inputs["even"]  # small activations, to which a norm's eps matters most
        for name, pixels in inputs.items():
            gaussian = model.encode(pixels).latent_dist
            arrays |= {
                f"{kind}/{name}/pixels": pixels,
                f"{kind}/{name}/mean": gaussian.mean,
                f"{kind}/{name}/logvar": gaussian.logvar,
            }
        latent = numbers(4, 2, 4, 5, 3)
        arrays |= {
            f"{kind}/latent": latent,
            f"{kind}/decoded": model.decode(latent).sample[..., ::3, ::3],
            f"{kind}/scale": torch.tensor(sizes["scaling_factor"], dtype=torch.float64),
        }
    return arrays


# --- the U-Net ---------------------------------------------------------------------------------------------

# diffusers calls the number of heads `attention_head_dim`; a depth of 0 is a block without cross-attention.
UNET_SIZES = {
    "sd1": {
        "channels": (16, 32, 48),
        "heads": (4, 4, 4),
        "depths": (1, 1, 0),
        "context": 24,
        "blocks": 2,
        "linear": False,
    },
    "sd2": {
        "channels": (16, 32, 48),
        "heads": (2, 4, 6),
        "depths": (1, 2, 0),
        "context": 32,
        "blocks": 2,
        "linear": True,
    },
    "tiny": {
        "channels": (24, 48, 64),
        "heads": (4, 6, 8),
        "depths": (0, 1, 1),
        "context": 24,
        "blocks": 1,
        "linear": False,
    },
}


def unet(
    channels: tuple[int, ...],
    heads: tuple[int, ...],
    depths: tuple[int, ...],
    context: int,
    blocks: int,
    linear: bool,
    groups: int = 8,
    in_channels: int = 4,
) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=in_channels,
        block_out_channels=channels,
        attention_head_dim=heads,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in depths[::-1]),
        transformer_layers_per_block=tuple(max(depth, 1) for depth in depths),
        cross_attention_dim=context,
        layers_per_block=blocks,
        use_linear_projection=linear,
        norm_num_groups=groups,
    )


def make_unet() -> Arrays:
    r"""Calls at two times, on an even latent, an odd and a faint one; and the sinusoids of the times."""
    times = torch.tensor([7, 981])
    arrays = {"t": times}
    for kind, sizes in UNET_SIZES.items():
        model = randomise(unet(**sizes).double())
        arrays[f"{kind}/sinusoids"] = model.time_proj(times)
        arrays[f"{kind}/context"] = context = numbers(5, 2, 6, sizes["context"])
        inputs = {"even": numbers(6, 2, 4, 8, 12), "odd": numbers(7, 2, 4, 11, 7)}
        inputs["faint"] = 1e-3 * inputs["even"]
        for name, x_t in inputs.items():
            arrays[f"{kind}/{name}/x_t"] = x_t
            arrays[f"{kind}/{name}/out"] = model(x_t, times, context).sample
    return arrays


# --- LoRA --------------------------------------------------------------------------------------------------

LORA_ALPHA = 2.0


def lora_pipeline(kind: str) -> diffusers.StableDiffusionPipeline:
    r"""The small U-Net of a kind and a small text encoder, where diffusers loads a LoRA into both."""
    net = randomise(unet(**UNET_SIZES[kind]).double())
    text = randomise(text_encoder("quick_gelu").double(), "text_model.")
    parts = {"vae": vae(**VAE_SIZES["tiny"]), "text_encoder": text, "tokenizer": None, "unet": net}
    extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(**parts, scheduler=DDIMScheduler(), **extras)


def with_lora(pipeline: diffusers.StableDiffusionPipeline, file: Arrays, strength: float = 1.0) -> None:
    pipeline.load_lora_weights(dict(file), adapter_name="a")
    pipeline.set_adapters("a", strength)
    for network in (pipeline.unet, pipeline.text_encoder):
        network.double()  # diffusers puts the factors in as float32


def lora_shapes(pipeline: diffusers.StableDiffusionPipeline) -> tuple[dict, dict]:
    r"""The shapes of the U-Net's parameters and of the text encoder's, which transformers 5 names without a prefix."""
    shapes, named = {n: p.shape for n, p in pipeline.unet.named_parameters()}, {}
    for name, parameter in pipeline.text_encoder.named_parameters():
        named[f"text_model.{name.removeprefix('text_model.')}"] = parameter.shape
    return shapes, named


def make_lora_outputs() -> Arrays:
    r"""The U-Net with a LoRA on every layer that people train, the text encoder with one; DoRA in PEFT's spelling."""
    arrays = {"t": torch.tensor([7, 981]), "ids": torch.tensor(IDS)}
    for kind in ("sd1", "sd2"):
        x_t, context = numbers(6, 2, 4, 8, 12), numbers(5, 2, 6, UNET_SIZES[kind]["context"])
        arrays |= {f"{kind}/x_t": x_t, f"{kind}/context": context}
        arrays[f"{kind}/sinusoids"] = lora_pipeline(kind).unet.time_proj(arrays["t"])
        for case, strength in (("lora", 1.0), ("half", 0.5), ("dora", 1.0)):
            pipeline = lora_pipeline(kind)
            net, text = lora_shapes(pipeline)
            if case == "dora":
                file = loras.peft(loras.make_lora(net, dora=True))
            else:
                file = loras.kohya(loras.make_lora(net), "lora_unet_", LORA_ALPHA)
                file |= loras.kohya(loras.make_lora(text), "lora_te_", LORA_ALPHA)
            with_lora(pipeline, file, strength)
            arrays[f"{kind}/{case}/out"] = pipeline.unet(x_t, arrays["t"], context).sample
            if case != "dora" and kind == "sd1":
                arrays[f"{case}/states"] = pipeline.text_encoder(arrays["ids"]).last_hidden_state
    return {name: array.detach() for name, array in arrays.items()}


# --- noise schedules and samplers --------------------------------------------------------------------------

SCHEDULES = {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}


def make_schedule() -> Arrays:
    r"""betas and alpha_bar in float32, as the reference has them."""
    arrays = {}
    for ours, theirs in SCHEDULES.items():
        scheduler = DDPMScheduler(beta_schedule=theirs, **BETAS)
        arrays |= {f"{ours}/betas": scheduler.betas, f"{ours}/alpha_bar": scheduler.alphas_cumprod}
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True, **BETAS)
    return arrays | {"zero_snr/betas": scheduler.betas, "zero_snr/alpha_bar": scheduler.alphas_cumprod}


def dummy_model(x_t: Tensor, t: int) -> Tensor:
    r"""Stands in for a U-Net; never zero, so that every step is seen."""
    return x_t * (t + 1) / (t + 2)


def sampler_noise(i: int) -> Tensor:
    return numbers(1000 + i, 1, 2, 1, 3)


def run(scheduler: DDIMScheduler | DDPMScheduler, steps: int, **options: float) -> Arrays:
    r"""All latents of a run [steps, ...] and its timesteps; the tables are the float32 ones, made float64."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    scheduler.set_timesteps(steps)
    x, path = sampler_noise(-1), []
    for i, t in enumerate(scheduler.timesteps.tolist()):
        # The schedulers draw their own noise; here they are given it, so that both sides add the same.
        with mock.patch(f"{type(scheduler).__module__}.randn_tensor", lambda *_, i=i, **__: sampler_noise(i)):
            x = scheduler.step(dummy_model(x, t), t, x, **options).prev_sample
        path.append(x)
    return {"path": torch.stack(path), "t": scheduler.timesteps}


def make_samplers() -> Arrays:
    r"""Every step of DDIM and DDPM runs."""
    arrays = {"alpha_bar": DDPMScheduler(beta_schedule="scaled_linear", **BETAS).alphas_cumprod}
    common = {"beta_schedule": "scaled_linear", "clip_sample": False, **BETAS}
    for kind, theirs in PREDICTIONS.items():
        for steps in (20, 30, 50):
            for spacing in ("leading", "trailing", "linspace"):
                options = {"timestep_spacing": spacing, "steps_offset": 1, "set_alpha_to_one": False}
                scheduler = DDIMScheduler(prediction_type=theirs, **options, **common)
                for eta in (0.0, 0.5, 1.0):
                    made = run(scheduler, steps, eta=eta)
                    arrays[f"ddim/{kind}/{steps}/{spacing}/{eta}"] = made["path"]
                    arrays[f"ddim/{steps}/{spacing}/t"] = made["t"]
            for variance in ("fixed_small", "fixed_large"):
                made = run(DDPMScheduler(prediction_type=theirs, variance_type=variance, **common), steps)
                arrays[f"ddpm/{kind}/{steps}/{variance}"] = made["path"]
                arrays[f"ddpm/{steps}/t"] = made["t"]
    return arrays


def integral(f: Callable[[float], Tensor], start: Tensor, end: Tensor, **_: float) -> tuple[float]:
    r"""What diffusers' LMS asks of scipy, exact for polynomials up to degree 15."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half, middle = (float(end) - float(start)) / 2, (float(end) + float(start)) / 2
    return (half * sum(w * float(f(middle + half * x)) for x, w in zip(nodes, weights)),)


scheduling_lms_discrete.integrate = SimpleNamespace(quad=integral)  # so that scipy is not needed

torchsde = ModuleType("torchsde")  # whose noise is replaced below, so that it is not needed
torchsde.__spec__ = ModuleSpec("torchsde", None)
sys.modules.setdefault("torchsde", torchsde)
from diffusers.schedulers.scheduling_dpmsolver_sde import DPMSolverSDEScheduler  # noqa: E402

SOLVERS = {
    "plms": lambda **options: PNDMScheduler(skip_prk_steps=True, steps_offset=1, **options),
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "lms": scheduling_lms_discrete.LMSDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "dpmpp_2m_sde": partial(DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++"),
    "dpmpp_sde": DPMSolverSDEScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
    "tcd": TCDScheduler,
}
WITHOUT_KARRAS = ("plms", "euler_ancestral", "lcm", "tcd")


@contextmanager
def no_float32() -> Iterator[None]:
    r"""Who asks for float32 is given float64: these schedulers cast to it, by name or by default."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(np, "float32", np.float64):
            yield
    finally:
        torch.set_default_dtype(default)


def solve(
    scheduler: nn.Module,
    steps: int,
    model: Callable[[Tensor, Tensor], Tensor] = dummy_model,
    start: Tensor | None = None,
    noise: Callable[[int], Tensor] = sampler_noise,
) -> Arrays:
    r"""All latents of a run, in the scheduler's own form, at the end of each whole step; and its times.

    The tables are the float32 ones, made float64.
    """
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    with no_float32():
        scheduler.set_timesteps(steps)
    x, path = (noise(-1) if start is None else start) * scheduler.init_noise_sigma, []
    drawn = f"{type(scheduler).__module__}.randn_tensor"
    twice = isinstance(scheduler, (HeunDiscreteScheduler, DPMSolverSDEScheduler))
    for i, t in enumerate(scheduler.timesteps):
        out = model(scheduler.scale_model_input(x, t), t)
        scheduler.noise_sampler = lambda *_, i=i: noise(i // 2)  # of DPM++ SDE, in place of torchsde's
        with no_float32(), mock.patch(drawn, lambda *_, i=i, **__: noise(i), create=True):
            x = scheduler.step(out, t, x).prev_sample
        path.append(x)
    times = scheduler.timesteps
    if twice:  # two calls a step, but for the last
        path, times = [*path[1::2], path[-1]], times[::2]
    if isinstance(scheduler, PNDMScheduler):  # two calls for the first step
        path, times = path[1:], torch.cat([times[:1], times[2:]])
    return {"path": torch.stack(path), "t": times}


def make_solvers() -> Arrays:
    r"""Every step of the other samplers; PLMS of v is another one there: see `ldm/diffusion/plms.py`."""
    common = {"beta_schedule": "scaled_linear", **BETAS}
    arrays = {"alpha_bar": PNDMScheduler(**common).alphas_cumprod}
    for name, build in SOLVERS.items():
        for kind in ("eps",) if name == "plms" else ("eps", "v"):
            for steps in (5, 20, 30):
                for karras in (False, True) if name not in WITHOUT_KARRAS else (False,):
                    options = {"use_karras_sigmas": True} if karras else {}
                    made = solve(build(prediction_type=PREDICTIONS[kind], **options, **common), steps)
                    key = f"{name}_karras" if karras else name
                    arrays |= {f"{key}/{kind}/{steps}/{array}": value for array, value in made.items()}
    return arrays


# --- layers ------------------------------------------------------------------------------------------------


def layers_of(case: str, model: nn.Module, run: Callable[[], object], prefix: str = "") -> Arrays:
    r"""What goes out of each layer while `run` calls the model: names in the order of running, and samples."""
    with watched(model) as seen:
        run()
    names = [name if name.startswith(prefix) else prefix + name for name in seen]
    return {f"{case}/names": packed(names), f"{case}/samples": torch.stack(list(seen.values()))}


def make_layers() -> Arrays:
    r"""The same models and inputs as above, layer by layer: what `explain.py` compares with."""
    ids, times, arrays = torch.tensor(IDS), torch.tensor([7, 981]), {}
    for kind, activation in (("last", "quick_gelu"), ("penultimate", "gelu")):
        model = randomise(text_encoder(activation).double(), "text_model.")

        def run(model: nn.Module = model, kind: str = kind) -> None:
            states = model(ids, output_hidden_states=True).hidden_states
            if kind == "penultimate":
                getattr(model, "text_model", model).final_layer_norm(states[-2])

        arrays |= layers_of(f"text/{kind}", model, run, "text_model.")
    made = make_vae()
    for kind, sizes in VAE_SIZES.items():
        model = randomise(vae(**sizes).double())
        for name in ("even", "odd", "faint"):
            pixels = made[f"{kind}/{name}/pixels"]
            arrays |= layers_of(f"vae/{kind}/{name}", model, lambda m=model, x=pixels: m.encode(x))
        latent = made[f"{kind}/latent"]
        arrays |= layers_of(f"vae/{kind}/latent", model, lambda m=model, x=latent: m.decode(x))
    made = make_unet()
    for kind, sizes in UNET_SIZES.items():
        model = randomise(unet(**sizes).double())
        for name in ("even", "odd", "faint"):
            inputs = made[f"{kind}/{name}/x_t"], times, made[f"{kind}/context"]
            arrays |= layers_of(f"unet/{kind}/{name}", model, lambda m=model, i=inputs: m(*i))
    return arrays


def save(name: str, arrays: Arrays) -> None:
    np.savez_compressed(
        FOLDER / f"{name}.npz", made_with=VERSIONS, **{key: value.numpy() for key, value in arrays.items()}
    )
    print(f"{name}.npz: {len(arrays)} arrays, {(FOLDER / f'{name}.npz').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save("text", make_text())
    save("clip", make_clip())
    save("vae", make_vae())
    save("unet", make_unet())
    save("lora", make_lora_outputs())
    save("schedule", make_schedule())
    save("samplers", make_samplers())
    save("solvers", make_solvers())
    save("layers", make_layers())
    from tests.golden.make_figures import save_figures  # which takes its small models from here

    save_figures()
    from tests.golden.make_control import make_control
    from tests.golden.make_few_steps import make_few_steps
    from tests.golden.make_layouts import save_layouts
    from tests.golden.make_sdxl import make_sdxl
    from tests.golden.make_tiny import make_tiny
    from tests.golden.make_words import make_words

    save_layouts()
    save("sdxl", make_sdxl())
    save("control", make_control())
    save("words", make_words())
    save("few_steps", make_few_steps())
    save("tiny", make_tiny())
