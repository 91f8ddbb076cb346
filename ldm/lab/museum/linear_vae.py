r"""A tiny VAE (`ldm.vae.tiny`) without training: weights that make a linear map of it.

No tiny VAE was trained for the model that the museum shows. But the numbers of a latent at a position nearly tell the
mean colour of its eight by eight pixels: $r = M z' + b$, where M and b are found by least squares from some images. The
network's layers can pass such a map on. Its first convolution takes $z'$ and $-z'$, of which a ReLU leaves one each.
All blocks are zero, and so the identity. The convolutions after an upsampling average over their nine pixels, which
smooths, and the last one takes the difference of both halves and multiplies by M.
"""

import shutil
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldm.checkpoints.folder import read_config
from ldm.checkpoints.names import rename
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.checkpoints.tiny_file import tiny_rows
from ldm.images.pixels import to_pixels
from ldm.loading import load_vae
from ldm.postcards import postcard
from ldm.vae.tiny import TinyVAE


@torch.no_grad()
def linear_vae(latents: Float[Tensor, "b z h w"], pixels: Float[Tensor, "b 3 h2 w2"]) -> TinyVAE:
    """A decoder that fits these pixels in [-1, 1] to these latents best, of those that are linear."""
    channels = latents.shape[1]
    vae = TinyVAE(channels, encodes=False)
    decoder = vae.decoder
    z = 3 * torch.tanh(latents / 3)
    colours = torch.nn.functional.avg_pool2d((pixels + 1) / 2, vae.factor)
    rows = torch.cat([z, torch.ones_like(z[:, :1])], dim=1).movedim(1, -1).flatten(0, -2)
    found = torch.linalg.lstsq(rows.double(), colours.movedim(1, -1).flatten(0, -2).double()).solution
    for parameter in vae.parameters():
        parameter.zero_()
    for i in range(channels):
        decoder.conv_in.weight[i, i, 1, 1] = 1
        decoder.conv_in.weight[channels + i, i, 1, 1] = -1
    for weight in decoder.up.parameters():
        for i in range(2 * channels):
            weight[i, i] = 1 / 9
    decoder.conv_out.weight[:, :channels, 1, 1] = found[:channels].T.float()
    decoder.conv_out.weight[:, channels : 2 * channels, 1, 1] = -found[:channels].T.float()
    decoder.conv_out.bias = nn.Parameter(found[channels].float())
    return vae


def with_tiny_vae(model: Path, place: Path) -> Path:
    """The model's own folder with a tiny VAE in it, a linear map that is fitted to eight postcards."""
    folder = place / "model"
    shutil.copytree(model, folder)
    size = read_config(model).defaults.size
    pixels = to_pixels([postcard(i, size=size).image for i in range(8)])
    latents, _ = load_vae(model, "float32", "cpu").encode(pixels)
    state = linear_vae(latents, pixels).state_dict()
    rows = [row for row in tiny_rows() if row.ours in state]
    tensors = {name.removeprefix("decoder."): t for name, t in rename(state, rows, "compvis").items()}
    write_safetensors(folder / "taesd_decoder.safetensors", tensors)
    return folder
