r"""Tiled VAE: large images in overlapping tiles, with memory that hardly grows with the image.

The VAE's finest feature maps have 128 or 256 channels at the image's full resolution: in float32, one of 256 channels
takes 1 GiB at 1024 x 1024 pixels, and a residual block holds several. A convolution only reads a small neighbourhood,
so the image can be computed tile by tile.

Two operations are not local:

- Attention reads the whole feature map. It runs at the latent's resolution, where even a large image is small, so the
  decoder's mid block is computed for the whole image.
- GroupNorm computes its statistics over its whole input. Computed per tile, they would give every tile slightly
  different colours. So they are measured once, on a version of the whole image made small by leaving out positions, and
  used for every tile.

This is an approximation: the statistics are measured at only some of the positions, and the encoder's attention, which
comes last, still sees only its tile. The remaining differences are blended where tiles overlap, so no seams are
visible.

The idea of measuring GroupNorm's statistics on a small version is from "Tiled VAE" (its fast mode), an extension by
pkuliyi2015 of AUTOMATIC1111's web interface. In diffusers, every tile has its own statistics.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.errors import LdmError
from ldm.nn.hooks import hooks
from ldm.vae.vae import VAE

# In latent pixels, along each side. A latent of 128 x 128 (1024 x 1024 pixels in Stable Diffusion) is split into nine
# tiles of 56; with tiles of 64 there would be nine, too, each a third larger.
TILE = 56
OVERLAP = 16
# The pixels in an image from which on a CPU works in tiles unasked. Stable Diffusion XL was trained at this size.
LARGE = 1024 * 1024


def must_tile(size: tuple[int, int], device: torch.device) -> bool:
    """Whether an image of this size (width, height) should be decoded in tiles. A GPU decodes it whole, and faster."""
    return device.type == "cpu" and size[0] * size[1] >= LARGE


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles begin along a side: the fewest that overlap by at least `overlap`, evenly spaced.

    Every tile has its full size; a side no longer than a tile is one tile. `tile_starts(10, 4, 1)` is [0, 3, 6].
    """
    if length <= tile:
        return [0]
    strides = -(-(length - tile) // (tile - overlap))  # rounded up
    return [i * (length - tile) // strides for i in range(strides + 1)]


def blend_weights(starts: list[int], length: int, tile: int, overlap: int) -> list[Float[Tensor, "tile"]]:
    r"""Each tile's weights along a side of `length`; at every position, the weights of all tiles sum to one:

    $$w_k(x) = \frac{r(x - x_k)}{\sum_j r(x - x_j)}, \qquad r(i) = \min(i + 1,\; n - i,\; \mathrm{overlap})$$

    The trapezoid r is 0 outside a tile of $n$ positions and smallest at its edges, where the tile lacks its
    surroundings and is least accurate. An overlap of 0 counts as 1. At the image's own edge there is only one tile,
    with weight 1.
    """
    tile = min(tile, length)
    rise = torch.arange(1, tile + 1, dtype=torch.float64, device="cpu")
    ramp = torch.minimum(rise, rise.flip(0)).clamp(max=max(overlap, 1))
    total = torch.zeros(length, dtype=torch.float64, device="cpu")
    for start in starts:
        total[start : start + tile] += ramp
    return [ramp / total[start : start + tile] for start in starts]


def in_tiles(
    function: Callable[[Tensor], Tensor],
    x: Float[Tensor, "1 c h w"],
    scales: tuple[int, int],
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Float[Tensor, "1 d h2 w2"]:
    """Apply `function` to x tile by tile, and blend the results.

    `tile` and `overlap` are in latent pixels; `scales` are the pixels of x, and of the result, per latent pixel along
    each side. Raises `LdmError` unless `overlap` is less than `tile`.
    """
    if not 0 <= overlap < tile:
        raise LdmError(
            f"tiles of {tile} with an overlap of {overlap}; expected at least 0 and less than the tile"
        )
    before, after = scales
    height, width = (side // before for side in x.shape[-2:])
    dtype = torch.promote_types(x.dtype, torch.float32)  # bfloat16 is too coarse for the weights
    sides = []
    for length in (height, width):
        starts = tile_starts(length, tile, overlap)
        weights = blend_weights([after * s for s in starts], after * length, after * tile, after * overlap)
        sides.append([(s, w.to(x.device, dtype)) for s, w in zip(starts, weights, strict=True)])
    out = x.new_zeros(0)  # until the first tile shows the number of channels
    for top, weight_y in sides[0]:
        for left, weight_x in sides[1]:
            piece = function(
                x[..., before * top : before * (top + tile), before * left : before * (left + tile)]
            )
            if not out.numel():
                out = piece.new_zeros((*piece.shape[:2], after * height, after * width), dtype=dtype)
            place = out[..., after * top :, after * left :]
            place[..., : len(weight_y), : len(weight_x)] += weight_y[:, None] * weight_x * piece
    return out.to(x.dtype)


@contextmanager
def fixed_statistics(network: nn.Module, measure: Callable[[], object]) -> Iterator[None]:
    r"""Within the `with` block, every GroupNorm in `network` uses the statistics that it computed during `measure()`:

    $$y = \frac{x - \mu_\mathrm{measured}}{\sqrt{\sigma^2_\mathrm{measured} + \varepsilon}}\, w + b$$

    Works only without gradients: y overwrites GroupNorm's own output, which saves the memory of a feature map.
    """
    measured: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def record(norm: nn.GroupNorm, inputs: tuple[Tensor], _: Tensor) -> None:
        groups = rearrange(inputs[0], "1 (g c) h w -> g (c h w)", g=norm.num_groups)
        groups = groups.to(torch.promote_types(groups.dtype, torch.float32))
        mean, std = groups.mean(dim=1), (groups.var(dim=1, correction=0) + norm.eps).sqrt()
        each = norm.num_channels // norm.num_groups
        scale = norm.weight / std.repeat_interleave(each)
        measured[norm] = scale, norm.bias - mean.repeat_interleave(each) * scale

    def replace(norm: nn.GroupNorm, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        scale, shift = (t.to(inputs[0].dtype)[:, None, None] for t in measured[norm])
        return torch.addcmul(shift, inputs[0], scale, out=out)

    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    with hooks((norm, record) for norm in norms):
        measure()
    with hooks((norm, replace) for norm in norms):
        yield


def subsample(x: Float[Tensor, "1 c h w"], side: int) -> Float[Tensor, "1 c h2 w2"]:
    """x with at most `side` positions along each side: some are kept unchanged, the others left out."""
    return F.interpolate(x, (min(x.shape[-2], side), min(x.shape[-1], side)), mode="nearest")


@torch.no_grad()  # gradients would hold every tile's feature maps at once
def decode_in_tiles(
    vae: VAE, latent: Float[Tensor, "b z h w"], tile: int = TILE, overlap: int = OVERLAP
) -> Float[Tensor, "b 3 h2 w2"]:
    """`vae.decode`, one image and one tile at a time. A latent no larger than a tile is decoded as usual."""
    if max(latent.shape[-2:]) <= tile:
        return vae.decode(latent)
    decoder = vae.decoder

    def decode(one: Tensor) -> Tensor:
        middle = decoder.middle(vae.to_own_dtype(one) / vae.scale)
        with fixed_statistics(decoder, lambda: decoder.enlarge(subsample(middle, tile))):
            return in_tiles(decoder.enlarge, middle, (1, vae.factor), tile, overlap)

    return torch.cat([decode(one) for one in latent.split(1)])


@torch.no_grad()
def encode_in_tiles(
    vae: VAE, pixels: Float[Tensor, "b 3 h w"], tile: int = TILE, overlap: int = OVERLAP
) -> tuple[Float[Tensor, "b z h2 w2"], Float[Tensor, "b z h2 w2"]]:
    """`vae.encode`, one image and one tile at a time: mean and log-variance of the scaled latent.

    Raises `LdmError` unless both sides are multiples of the VAE's factor: tiles consist of whole latent pixels.
    """
    height, width = pixels.shape[-2:]
    if height % vae.factor or width % vae.factor:
        raise LdmError(f"{width}x{height} pixels in tiles; expected multiples of {vae.factor} on both sides")

    def mean_and_logvar(piece: Tensor) -> Tensor:
        return torch.cat(vae.encode(piece), dim=1)

    def encode(one: Tensor) -> Tensor:
        one = vae.to_own_dtype(one)
        with fixed_statistics(vae.encoder, lambda: mean_and_logvar(subsample(one, vae.factor * tile))):
            return in_tiles(mean_and_logvar, one, (vae.factor, 1), tile, overlap)

    if max(height, width) <= vae.factor * tile:
        return vae.encode(pixels)
    mean, logvar = torch.cat([encode(one) for one in pixels.split(1)]).chunk(2, dim=1)
    return mean, logvar
