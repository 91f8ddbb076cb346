r"""What diffusers' tiny VAE (TAESD) makes of numbers: `tiny.npz`. Part of `make golden`. It does not import `ldm`."""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from tests.golden import make


def tiny_vae(latent_channels: int = 4) -> AutoencoderTiny:
    r"""With random weights, in float64."""
    return make.randomise(AutoencoderTiny(latent_channels=latent_channels).double())


def make_tiny() -> dict[str, Tensor]:
    r"""Two images of 24 x 40 pixels, and two latents of 3 x 5, large enough to be bent."""
    vae, pixels, latent = tiny_vae(), make.numbers(41, 2, 3, 24, 40), 2 * make.numbers(42, 2, 4, 3, 5)
    with torch.no_grad():
        encoded, decoded = vae.encode(pixels).latents, vae.decode(latent).sample
    return {"pixels": pixels, "latent": latent, "encoded": encoded, "decoded": decoded}


if __name__ == "__main__":
    make.save("tiny", make_tiny())
