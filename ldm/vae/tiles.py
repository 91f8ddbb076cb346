r"""Large pictures in overlapping tiles: the memory of one tile, however large the picture.

The VAE's finest feature maps have 128 or 256 channels at the picture's full resolution: in float32, one of them takes
1 GiB at 1024 x 1024 pixels, and a residual block holds several. A convolution only looks at its neighbours, so the
picture can be made piece by piece.

Two things in the VAE look further: GroupNorm takes its statistics, and the attention in the middle its weights, from
all that is there, which now is a tile. So neighbouring tiles differ by a shade. Where they overlap, one is faded into
the other, and no edge is left to be seen: it is an approximation, but one without seams.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError
from ldm.vae.vae import VAE

# Latents along each side: 512 pixels, as large as Stable Diffusion 1 paints; and a quarter of that.
TILE = 64
OVERLAP = 16


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where along a side the tiles begin: as few as share at least `overlap` with the next, evenly spread.

    Every tile has its full size; a side that is no longer than a tile is one tile. `starts(10, 4, 1)` is [0, 3, 6].
    """
    if length <= tile:
        return [0]
    strides = -(-(length - tile) // (tile - overlap))  # rounded up
    return [i * (length - tile) // strides for i in range(strides + 1)]


def shares(places: list[int], length: int, tile: int, overlap: int) -> list[Float[Tensor, "tile"]]:
    r"""How much each tile counts along a side of `length`; at every place, the tiles' shares add up to one:

    $$s_k(x) = \frac{r(x - x_k)}{\sum_j r(x - x_j)}, \qquad r(i) = \min(i + 1,\; n - i,\; \mathrm{overlap})$$

    with $r = 0$ outside a tile of $n$ places, and an overlap of 0 counted as 1. It rises from a tile's edge, where the
    tile lacks its neighbours and errs most, and falls towards the other. At the picture's own edge there is only one
    tile, and its share is one.
    """
    tile = min(tile, length)
    rise = torch.arange(1, tile + 1, dtype=torch.float64)
    ramp = torch.minimum(rise, rise.flip(0)).clamp(max=max(overlap, 1))
    total = torch.zeros(length, dtype=torch.float64)
    for start in places:
        total[start : start + tile] += ramp
    return [ramp / total[start : start + tile] for start in places]


def in_tiles(
    function: Callable[[Tensor], Tensor],
    x: Float[Tensor, "1 c h w"],
    scales: tuple[int, int],
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Float[Tensor, "1 d h2 w2"]:
    """`function` of x, tile by tile, faded into one another.

    `tile` and `overlap` are counted in latents; `scales` says how many pixels of x, and of the result, there are to a
    latent along each side. Raises `LdmError` for tiles that do not advance.
    """
    if not 0 <= overlap < tile:
        raise LdmError(
            f"tiles of {tile} latents that share {overlap}; expected at least 0 and less than a tile"
        )
    before, after = scales
    height, width = (side // before for side in x.shape[-2:])
    dtype = torch.promote_types(x.dtype, torch.float32)  # in bfloat16 the shares would be steps
    sides = []
    for length in (height, width):
        places = starts(length, tile, overlap)
        share = shares([after * p for p in places], after * length, after * tile, after * overlap)
        sides.append([(p, s.to(x.device, dtype)) for p, s in zip(places, share, strict=True)])
    out: Tensor | None = None
    for top, share_y in sides[0]:
        for left, share_x in sides[1]:
            piece = function(
                x[..., before * top : before * (top + tile), before * left : before * (left + tile)]
            )
            if out is None:
                out = piece.new_zeros((*piece.shape[:2], after * height, after * width), dtype=dtype)
            place = out[..., after * top :, after * left :]
            place[..., : len(share_y), : len(share_x)] += share_y[:, None] * share_x * piece
    assert out is not None
    return out.to(x.dtype)


@torch.no_grad()  # gradients would hold every tile's feature maps at once
def decode_in_tiles(
    vae: VAE, latent: Float[Tensor, "b z h w"], tile: int = TILE, overlap: int = OVERLAP
) -> Float[Tensor, "b 3 h2 w2"]:
    """`vae.decode`, one picture and one tile at a time. A latent no larger than a tile is decoded as ever."""
    pictures = [in_tiles(vae.decode, one, (1, vae.factor), tile, overlap) for one in latent.split(1)]
    return torch.cat(pictures)


@torch.no_grad()
def encode_in_tiles(
    vae: VAE, pixels: Float[Tensor, "b 3 h w"], tile: int = TILE, overlap: int = OVERLAP
) -> tuple[Float[Tensor, "b z h2 w2"], Float[Tensor, "b z h2 w2"]]:
    """`vae.encode`, one picture and one tile at a time: mean and log-variance of the scaled latent.

    Raises `LdmError` for sides that are no multiples of the VAE's factor: tiles meet where latents do.
    """
    height, width = pixels.shape[-2:]
    if height % vae.factor or width % vae.factor:
        raise LdmError(
            f"{width}x{height} pixels in tiles; expected multiples of {vae.factor} along each side"
        )

    def encode(piece: Tensor) -> Tensor:
        return torch.cat(vae.encode(piece), dim=1)

    latents = [in_tiles(encode, one, (vae.factor, 1), tile, overlap) for one in pixels.split(1)]
    mean, logvar = torch.cat(latents).chunk(2, dim=1)
    return mean, logvar
