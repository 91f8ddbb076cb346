r"""A tiny VAE that is a linear map: of colours that depend on the latent linearly it finds each."""

import torch
import torch.nn.functional as F

from ldm.lab.museum.linear_vae import linear_vae


def test_it_finds_the_map_that_the_colours_were_made_with():
    generator = torch.Generator().manual_seed(1)
    latents, matrix = (torch.randn(size, generator=generator) for size in ((2, 4, 5, 6), (3, 4)))
    colours = 0.1 * torch.einsum("cz,bzhw->bchw", matrix, 3 * torch.tanh(latents / 3)) + 0.5
    vae = linear_vae(latents, 2 * F.interpolate(colours, scale_factor=8, mode="nearest") - 1)
    flat = latents[:1, :, :1, :1].expand(
        1, 4, 5, 5
    )  # of one colour, so that nothing shows of smoothing in its middle
    expected = 2 * colours[0, :, 0, 0] - 1
    torch.testing.assert_close(vae.decode(flat)[0, :, 20, 20], expected, rtol=0, atol=1e-5)
