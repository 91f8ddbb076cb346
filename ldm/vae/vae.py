r"""The variational autoencoder: the latent space that diffusion works in.

Neighbouring pixels are highly redundant. The VAE keeps what matters in 48 times fewer numbers (Stable Diffusion: 512 x
512 x 3 to 64 x 64 x 4) or 12 times fewer (the tiny model: 128 x 128 x 3 to 16 x 16 x 16), and diffusion, which runs its
network dozens of times, runs it there.

The encoder outputs a narrow Gaussian rather than a point, and the decoder must cope with any sample from it (Kingma &
Welling 2014). In training, a term of the loss pulls that Gaussian towards N(0, 1): their KL divergence, with a small
weight (about 1e-6 in Stable Diffusion). This only keeps the latents from growing without bound. It is too weak to make
them standard normal, so they are scaled, and it takes a diffusion model to learn their distribution.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldm.config import VAEConfig
from ldm.vae.decoder import Decoder
from ldm.vae.encoder import Encoder


def reparametrise(
    mean: Float[Tensor, "b z h w"], logvar: Float[Tensor, "b z h w"], noise: Float[Tensor, "b z h w"]
) -> Float[Tensor, "b z h w"]:
    r"""A sample from $\mathcal N(\mu, \sigma^2)$, written so that gradients can flow through it:

    $$z = \mu + \sigma \epsilon, \qquad \sigma = e^{\frac12 \log \sigma^2}, \quad \epsilon \sim \mathcal N(0, 1)$$

    Source: Kingma & Welling 2014, section 2.4.
    """
    return mean + torch.exp(0.5 * logvar) * noise


def kl_divergence(mean: Float[Tensor, "b z h w"], logvar: Float[Tensor, "b z h w"]) -> Float[Tensor, "b"]:
    r"""How far the encoder's Gaussian is from the standard one, in nats, summed over an image's latent:

    $$D_\mathrm{KL}\bigl(\mathcal N(\mu, \sigma^2) \,\|\, \mathcal N(0, 1)\bigr)
      = \tfrac12 \sum \left(\mu^2 + \sigma^2 - 1 - \log \sigma^2\right)$$

    Source: Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3))


class VAE(nn.Module):
    r"""Encoder and decoder, with the latents scaled to unit variance in between.

    The latents of a trained VAE have some standard deviation (1 / 0.18215 for Stable Diffusion), while diffusion's
    noise has a standard deviation of 1. So `encode` multiplies by `config.scale` and `decode` divides by it: everywhere
    else in this project a latent is a scaled one. (Rombach et al. 2022, appendix G. In other code the caller has to
    scale, by diffusers' `scaling_factor` for example, and sometimes forgets.)

    Inputs are cast to the VAE's own dtype, and outputs have that dtype. Some VAEs overflow in float16; those run in
    float32 alongside a U-Net in float16.
    """

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.scale = config.scale
        self.factor = config.factor
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(
        self, pixels: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b z h2 w2"], Float[Tensor, "b z h2 w2"]]:
        r"""From pixels in [-1, 1] to the mean and log-variance of their scaled latent.

        With $s$ = `scale`: if $z \sim \mathcal N(\mu, \sigma^2)$, then $sz \sim \mathcal N(s\mu, s^2\sigma^2)$, whose
        log-variance is $\log\sigma^2 + 2 \log s$. The log-variance is clamped to [-30, 20] before scaling, so that its
        exponential is finite. The pixels may have another dtype than the VAE.
        """
        mean, logvar = self.encoder(self.to_own_dtype(pixels)).chunk(2, dim=1)
        return self.scale * mean, logvar.clamp(-30.0, 20.0) + 2 * math.log(self.scale)

    def decode(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """From a scaled latent to pixels, in [-1, 1] apart from some overshoot.

        Raises `LdmError` for a wrong number of channels.
        """
        latent = self.to_own_dtype(latent)
        return self.decoder(latent / self.scale)

    def to_own_dtype(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Cast x to the VAE's dtype and move it to the VAE's device; both may differ from the U-Net's."""
        return x.to(self.decoder.conv_in.weight)
