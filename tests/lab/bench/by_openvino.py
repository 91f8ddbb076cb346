r"""The cases of `ldm/lab/bench/cases.py` in OpenVINO, which runs diffusers' networks converted for the CPU.

A network is converted once for all processes that measure it, in a process of its own, and then read from a file beside
the model, as users of OpenVINO do. That file is mapped and holds float32; what is computed in is set when it is
compiled. Its shapes are those of the measurement: OpenVINO fuses more when it knows them.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

from ldm.errors import LdmError
from ldm.lab.bench.fresh import Case, Numbers, main, measure
from ldm.lab.bench.stopwatch import TIMES, WARM, T, memory_in_use, peak_memory, random_normal, seconds
from ldm.lab.bench.workload import PROMPT, QUICK, Sizes
from tests.lab.bench import theirs

# OpenVINO sends statistics about its use, if it finds the module that does so. A benchmark need not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import nncf  # noqa: E402
import openvino  # noqa: E402

MODULE = "tests.lab.bench.by_openvino"
INT8 = "unet-int8"
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Unet(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return self.unet(x_t, t, encoder_hidden_states=context, return_dict=False)[0]


class Decoder(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.vae = theirs.vae_of(folder, torch.float32)

    def forward(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent, return_dict=False)[0]


class Encoder(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.vae = theirs.vae_of(folder, torch.float32)

    def forward(self, image: Tensor) -> Tensor:
        return self.vae.encode(image, return_dict=False)[0].parameters  # mean and log-variance


NETWORKS: dict[str, type[nn.Module]] = {"unet": Unet, "decoder": Decoder, "encoder": Encoder}


def inputs(network: str, sizes: Sizes) -> tuple[Tensor, ...]:
    r"""What a network is measured with, and converted for."""
    config, side = sizes.config, sizes.side // sizes.config.vae.factor
    latent = random_normal(1, 1, config.vae.latent_channels, side, side)
    if network in ("unet", INT8):
        context = random_normal(2, 2, config.text.context_length, config.text.width)
        return torch.cat([latent] * 2), torch.tensor(T), context
    if network == "decoder":
        return (latent / config.vae.scale,)
    return (random_normal(1, 1, 3, sizes.side, sizes.side).clamp(-1, 1),)


def file_of(folder: Path, network: str) -> Path:
    return folder / "openvino" / f"{network}.xml"


@torch.no_grad()
def convert(folder: Path, sizes: Sizes, network: str) -> Numbers:
    given = inputs(network, sizes)
    converted = openvino.convert_model(NETWORKS[network](folder).eval(), example_input=given)
    converted.reshape({i: list(one.shape) for i, one in enumerate(given)})
    openvino.save_model(converted, file_of(folder, network), compress_to_fp16=False)
    return {}


def quantize(folder: Path, sizes: Sizes) -> Numbers:
    r"""The U-Net with 8-bit integers in linear layers and convolutions, by NNCF: scales from one calibration input.

    With random weights there is no accuracy to correct for; the time does not depend on it.
    """
    model = openvino.Core().read_model(converted(folder, sizes, "unet"))
    given = [one.numpy() for one in inputs("unet", sizes)]
    plain = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    smaller = nncf.quantize(
        model,
        nncf.Dataset([given]),
        subset_size=1,
        model_type=nncf.ModelType.TRANSFORMER,
        advanced_parameters=plain,
    )
    openvino.save_model(smaller, file_of(folder, INT8), compress_to_fp16=False)
    return {}


def converted(folder: Path, sizes: Sizes, network: str) -> Path:
    r"""The file of a network. If there is none, a process of its own converts it: that takes a lot of memory."""
    path = file_of(folder, network)
    if not path.is_file():
        measure(MODULE, f"convert-{network}", folder, quick=sizes is QUICK)
    return path


def compiled(folder: Path, sizes: Sizes, network: str, dtype: torch.dtype) -> Callable[..., Tensor]:
    r"""A network that computes in `dtype`, from float32 to float32."""
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(converted(folder, sizes, network), "CPU", options)
    found = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    if found != HINTS[dtype]:
        raise LdmError(f"OpenVINO computes in {found} on this processor; {HINTS[dtype]} was asked for")
    return lambda *given: torch.from_numpy(model([one.numpy() for one in given])[0])


def timed(folder: Path, sizes: Sizes, network: str, dtype: torch.dtype) -> Numbers:
    run = partial(compiled(folder, sizes, network, dtype), *inputs(network, sizes))
    seconds(run, WARM)
    return {"seconds": seconds(run, TIMES)}


@torch.no_grad()
def text_to_image(folder: Path, sizes: Sizes, dtype: torch.dtype, network: str = "unet") -> Numbers:
    r"""A whole image: the two networks, between diffusers' text encoder and scheduler."""
    for needed in (network, "decoder"):
        converted(folder, sizes, needed)
    with peak_memory(memory_in_use) as peak:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
        text_encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
        scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
        unet = compiled(folder, sizes, network, dtype)
        decoder = compiled(folder, sizes, "decoder", dtype)

        def generate() -> Image.Image:
            prompts = ["", PROMPT.format(0)]
            ids = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
            context = text_encoder(ids).last_hidden_state
            x_t, _ = inputs("unet", sizes)[0].split(1)
            scheduler.set_timesteps(sizes.steps)
            for t in scheduler.timesteps:
                uncond, cond = unet(torch.cat([x_t] * 2), t, context).split(1)
                eps = uncond + sizes.config.defaults.guidance * (cond - uncond)
                x_t = scheduler.step(eps, t, x_t).prev_sample
            [image] = decoder(x_t / sizes.config.vae.scale)
            pixels = (255 * (image / 2 + 0.5).clamp(0, 1)).round().permute(1, 2, 0)
            return Image.fromarray(pixels.numpy().astype(np.uint8))

        took = seconds(generate)
    found = {"seconds": took}
    return found if peak.bytes is None else found | {"memory": peak.bytes / 2**20}


CASES: dict[str, Case] = {
    "unet-bfloat16": partial(timed, network="unet", dtype=torch.bfloat16),
    "unet-float32": partial(timed, network="unet", dtype=torch.float32),
    "decode-bfloat16": partial(timed, network="decoder", dtype=torch.bfloat16),
    "decode-float32": partial(timed, network="decoder", dtype=torch.float32),
    "encode-bfloat16": partial(timed, network="encoder", dtype=torch.bfloat16),
    "paint-bfloat16": partial(text_to_image, dtype=torch.bfloat16),
    "unet-int8": partial(timed, network=INT8, dtype=torch.bfloat16),
    "paint-int8": partial(text_to_image, network=INT8, dtype=torch.bfloat16),
}
CONVERSIONS: dict[str, Case] = {
    **{f"convert-{network}": partial(convert, network=network) for network in NETWORKS},
    f"convert-{INT8}": quantize,
}

if __name__ == "__main__":
    main(CASES | CONVERSIONS)
