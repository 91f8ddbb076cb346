r"""What was published for tiny VAEs (TAESD): two images that go through the encoder and the decoder.

A latent $z$ of TAESD is meant to be stored as an image, so diffusers' round trip rounds it to bytes: with $u$ for
$z / 6 + 1/2$, clamped to [0, 1], it becomes $6\,(\mathrm{round}(255\,u) / 255 - 1/2)$.

The numbers of one of them are those of one copy, "taesd-diffusers"; other editions of TAESD have other weights. The
other one asks for little, so that every edition passes: a white square stays where it is.

Source: diffusers' tests of its AutoencoderTiny; see `SOURCE`.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError
from ldm.lab.verify.compare import Comparison
from ldm.lab.verify.inputs import make_input, missing_files
from ldm.lab.verify.references import Reference
from ldm.vae.vae import VAE

SOURCE = "tests/models/autoencoders/test_models_autoencoder_tiny.py::AutoencoderTinyIntegrationTests"
NOISE = Reference(
    name="noise through both halves, seed 33",
    releases=("hf-internal-testing/taesd-diffusers",),
    expected=(0.0093, 0.6385, -0.1274, 0.1631, -0.1762, 0.5232, -0.3108, -0.0382),
    tolerance=3e-3,
    source=f"{SOURCE}::test_stable_diffusion",
    inputs={
        "pixels": {
            "from": "file",
            "name": "gaussian_noise_s=33_shape=4_3_512_512.npy",
            "shape": [4, 3, 512, 512],
        }
    },
)
SQUARE = Reference(
    name="a white square through both halves: the largest error of a mean over 8x8 pixels",
    releases=("any TAESD",),
    expected=(0.0,),
    tolerance=0.125,
    source=f"{SOURCE}::test_tae_roundtrip",
)


def compare_tiny(vae: VAE, folder: Path | None = None) -> list[Comparison]:
    """The published checks of a tiny VAE. One without an encoder can make none, and the reason says so.

    The publisher's file of noise is read from `folder`.
    """
    if absent := missing_files(NOISE.inputs, folder):
        noise = Comparison(NOISE, None, f"needs a file we do not have: {', '.join(absent)}")
    else:
        noise = _compared(NOISE, lambda: noise_slice(vae, folder))
    return [noise, _compared(SQUARE, lambda: square_error(vae))]


def _compared(reference: Reference, compute: Callable[[], tuple[float, ...]]) -> Comparison:
    try:
        return Comparison(reference, compute())
    except LdmError as error:
        return Comparison(reference, None, str(error))


@torch.no_grad()
def round_trip(vae: VAE, pixels: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
    """An image in [-1, 1] to a latent, stored in bytes, and back. Raises `LdmError` without an encoder."""
    latent, _ = vae.encode(pixels)
    stored = (255 * (latent / 6 + 0.5).clamp(0, 1)).round()
    return vae.decode(6 * (stored / 255 - 0.5))


def noise_slice(vae: VAE, folder: Path | None) -> tuple[float, ...]:
    """The last of four images of noise, of which a corner was published."""
    noise = make_input(NOISE.inputs["pixels"], folder)
    parameter = next(vae.parameters())
    seen = round_trip(vae, noise[-1:].to(parameter))
    return tuple(seen[-1, -2:, -2:, :2].flatten().tolist())


def square_error(vae: VAE) -> tuple[float, ...]:
    """How far a white square on black is from itself, in means over 8x8 pixels: one number."""
    parameter = next(vae.parameters())
    image = torch.full((1, 3, 1024, 1024), -1.0).to(parameter)
    image[..., 256:768, 256:768] = 1.0
    before, after = (F.avg_pool2d(pixels, 8) for pixels in (image, round_trip(vae, image)))
    return (float((after - before).abs().max()),)
