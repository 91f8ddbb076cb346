r"""What diffusers and transformers answer for a small Stable Diffusion XL: `sdxl.npz`. Part of `make golden`.

It does not import `ldm`. The tokenizer is a stub: three prompts with their ids, so that both sides read the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import transformers
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models import embeddings
from torch import Tensor, nn

from tests.golden import make

Arrays = dict[str, Tensor]

LENGTH, BOS, EOS = 32, 516, 517
PROMPTS = {"": [], "red dog": [513, 515], "dog": [515]}
SIZES = {"vocab_size": 518, "max_position_embeddings": LENGTH, "bos_token_id": BOS, "eos_token_id": 2}
TEXT = SIZES | {"hidden_size": 16, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3}
TEXT_2 = SIZES | {
    "hidden_size": 24,
    "intermediate_size": 96,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
}
POOLED, SINUSOIDS = 20, 8
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS, GUIDANCE = 3, 5.0
# In pixels, as diffusers' pipeline takes them: (height, width), (top, left).
IMAGE = {"original_size": (768, 512), "crops_coords_top_left": (5, 7), "target_size": (640, 896)}


class StubTokenizer:
    r"""As much of a tokenizer as diffusers' pipeline asks for."""

    model_max_length = LENGTH
    added_tokens_encoder: dict[str, int] = {}

    def __init__(self, pad: int):
        self.pad = pad

    def tokenize(self, prompt: str) -> list[str]:
        return prompt.split()

    def __call__(self, prompts: list[str], **_: object) -> transformers.BatchEncoding:
        rows = [[BOS, *PROMPTS[prompt], EOS] for prompt in prompts]
        ids = [row + [self.pad] * (LENGTH - len(row)) for row in rows]
        return transformers.BatchEncoding({"input_ids": torch.tensor(ids)})


class ExactEuler(EulerDiscreteScheduler):
    r"""Euler in float64 throughout: diffusers' casts to float32, by name."""

    def set_timesteps(self, *arguments: object, **named: object) -> None:
        self.alphas_cumprod = self.alphas_cumprod.double()
        with make.no_float32():
            super().set_timesteps(*arguments, **named)

    def step(self, *arguments: object, **named: object) -> object:
        with make.no_float32():
            return super().step(*arguments, **named)


def text_encoder() -> nn.Module:
    config = transformers.CLIPTextConfig(**TEXT, hidden_act="quick_gelu")
    return make.randomise(transformers.CLIPTextModel(config).double(), "text_model.")


def text_encoder_2() -> nn.Module:
    config = transformers.CLIPTextConfig(**TEXT_2, hidden_act="gelu", projection_dim=POOLED)
    return make.randomise(transformers.CLIPTextModelWithProjection(config).double())


def unet(numbers: int = 6, context: int = 16 + 24, told: int | None = None) -> UNet2DConditionModel:
    model = UNet2DConditionModel(
        block_out_channels=(16, 32, 48),
        layers_per_block=2,
        cross_attention_dim=context,
        attention_head_dim=(2, 4, 6),
        use_linear_projection=True,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        addition_embed_type="text_time",
        addition_time_embed_dim=SINUSOIDS,
        projection_class_embeddings_input_dim=POOLED + numbers * SINUSOIDS,
        time_cond_proj_dim=told,
    )
    return make.randomise(model.double())


def vae() -> AutoencoderKL:
    return make.randomise(make.vae((16, 32), layers_per_block=1, scaling_factor=0.13025).double())


def pipeline() -> StableDiffusionXLPipeline:
    found = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder_2(),
        tokenizer=StubTokenizer(EOS),
        tokenizer_2=StubTokenizer(0),
        unet=unet(),
        scheduler=ExactEuler(**NOISE, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )
    found.set_progress_bar_config(disable=True)
    return found


@contextmanager
def recorded_sinusoids(arrays: Arrays) -> Iterator[None]:
    r"""Keep what becomes of each time and number: they are float32, and processors differ in the last bit."""
    original, seen = embeddings.get_timestep_embedding, {}

    def record(values: Tensor, width: int, *rest: object, **named: object) -> Tensor:
        found = original(values, width, *rest, **named)
        seen.update({(float(value), width): row for value, row in zip(values, found)})
        return found

    with mock.patch.object(embeddings, "get_timestep_embedding", record):
        yield
    for width in {width for _, width in seen}:
        values = [value for value, w in seen if w == width]
        arrays[f"sinusoids/{width}/of"] = torch.tensor(values)
        arrays[f"sinusoids/{width}"] = torch.stack([seen[value, width] for value in values])


def make_parts() -> Arrays:
    ids = torch.tensor([[BOS, 513, 515, EOS] + [0] * 28, [BOS, *range(7, 20), EOS] + [0] * 17])
    out = text_encoder_2()(ids, output_hidden_states=True)
    arrays = {"text/ids": ids, "text/context": out.hidden_states[-2], "text/pooled": out.text_embeds}
    arrays["text/first"] = text_encoder()(ids, output_hidden_states=True).hidden_states[-2]
    times, pooled = torch.tensor([7, 981]), make.numbers(21, 2, POOLED)
    arrays |= {"unet/t": times, "unet/pooled": pooled, "unet/context": make.numbers(22, 2, 7, 40)}
    micro = torch.tensor([[1024.0, 768, 5, 7, 900, 800, 6], [512, 640, 0, 3, 1000, 700, 2.5]])
    for kind, numbers in (("base", micro[:, :6]), ("refiner", micro[:, [0, 1, 2, 3, 6]])):
        arrays[f"unet/{kind}/micro"] = numbers
        for size, x_t in (("even", make.numbers(23, 2, 4, 8, 12)), ("odd", make.numbers(24, 2, 4, 7, 5))):
            added = {"text_embeds": pooled, "time_ids": numbers}
            inputs = (x_t, times, arrays["unet/context"])
            arrays[f"unet/{kind}/{size}/x_t"] = x_t
            arrays[f"unet/{kind}/{size}/out"] = unet(numbers.shape[1])(
                *inputs, added_cond_kwargs=added
            ).sample
    return arrays


def make_runs() -> Arrays:
    r"""Whole runs: without a negative prompt, whose context is then zero, and with one; of 24 x 32 pixels."""
    pipe, noise = pipeline(), make.numbers(25, 2, 4, 16, 12)
    arrays = {"run/noise": noise}
    runs = {
        "plain": {"prompt": "red dog"},
        "negative": {"prompt": "red dog", "negative_prompt": "dog"} | IMAGE,
        "encoded": {"prompt": "dog", "negative_prompt": ""},
    }
    options = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": 32, "width": 24}
    for name, run in runs.items():
        x = pipe(
            **run, **options, latents=noise.clone(), num_images_per_prompt=2, output_type="latent"
        ).images
        arrays[f"run/{name}/latents"] = x
    arrays["run/pixels"] = pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample
    return arrays


def make_sdxl() -> Arrays:
    arrays: Arrays = {}
    with torch.no_grad(), recorded_sinusoids(arrays):
        made = make_parts() | make_runs()
    return made | arrays
