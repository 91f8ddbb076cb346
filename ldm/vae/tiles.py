r"""Large pictures in overlapping tiles: the memory of one tile, however large the picture.

The VAE's finest feature maps have 128 or 256 channels at the picture's full resolution: in float32, one of them takes
1 GiB at 1024 x 1024 pixels, and a residual block holds several. A convolution only looks at its neighbours, so the
picture can be made piece by piece.

Two things in the VAE look further than a tile. Attention looks everywhere; but it works at the latent's resolution,
where even a large picture is small, so the decoder's middle is computed whole. And GroupNorm takes its statistics from
all that is there. Were that a tile, each tile would be of another shade; so they are taken once, from a small version
of the whole, in which some places are kept and the others left out, and every tile uses those. It is an approximation:
they are the statistics of some of the places, and the encoder's attention, which comes last, still sees a tile. What is
left of it fades where tiles overlap, and no edge is to be seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.errors import LdmError
from ldm.nn.hooks import add_hook
from ldm.vae.vae import VAE

# Latents along each side. 128 x 128 latents, 1024 x 1024 pixels of Stable Diffusion, are nine tiles, as they would be
# with tiles of 64; but those are a third larger.
TILE = 56
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
    rise = torch.arange(1, tile + 1, dtype=torch.float64, device="cpu")
    ramp = torch.minimum(rise, rise.flip(0)).clamp(max=max(overlap, 1))
    total = torch.zeros(length, dtype=torch.float64, device="cpu")
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


Hook = Callable[[nn.GroupNorm, tuple[Tensor], Tensor], Tensor | None]


@contextmanager
def hooked(network: nn.Module, hook: Hook) -> Iterator[None]:
    """While it lasts, `hook` sees each GroupNorm's input and output, and may put another output in its place.

    In this thread alone: another one may work with the same network meanwhile.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    handles = [add_hook(norm, hook) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def statistics_of(network: nn.Module, look: Callable[[], object]) -> Iterator[None]:
    r"""While it lasts, every GroupNorm in `network` uses the statistics that it meets in `look()`:

    $$y = \frac{x - \mu_{look}}{\sqrt{\sigma^2_{look} + \varepsilon}}\, w + b$$

    Without gradients: y is written over what GroupNorm made of x, so that no feature map is held twice.
    """
    met: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def note(norm: nn.GroupNorm, inputs: tuple[Tensor], _: Tensor) -> None:
        groups = rearrange(inputs[0], "1 (g c) h w -> g (c h w)", g=norm.num_groups)
        groups = groups.to(torch.promote_types(groups.dtype, torch.float32))
        mean, std = groups.mean(dim=1), (groups.var(dim=1, correction=0) + norm.eps).sqrt()
        each = norm.num_channels // norm.num_groups
        scale = norm.weight / std.repeat_interleave(each)
        met[norm] = scale, norm.bias - mean.repeat_interleave(each) * scale

    def use(norm: nn.GroupNorm, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        scale, shift = (t.to(inputs[0].dtype)[:, None, None] for t in met[norm])
        return torch.addcmul(shift, inputs[0], scale, out=out)

    with hooked(network, note):
        look()
    with hooked(network, use):
        yield


def small(x: Float[Tensor, "1 c h w"], side: int) -> Float[Tensor, "1 c h2 w2"]:
    """x with no more than `side` places along each side: some are kept as they are, the others left out."""
    return F.interpolate(x, (min(x.shape[-2], side), min(x.shape[-1], side)), mode="nearest")


@torch.no_grad()  # gradients would hold every tile's feature maps at once
def decode_in_tiles(
    vae: VAE, latent: Float[Tensor, "b z h w"], tile: int = TILE, overlap: int = OVERLAP
) -> Float[Tensor, "b 3 h2 w2"]:
    """`vae.decode`, one picture and one tile at a time. A latent no larger than a tile is decoded as ever."""
    if max(latent.shape[-2:]) <= tile:
        return vae.decode(latent)
    decoder = vae.decoder

    def decode(one: Tensor) -> Tensor:
        middle = decoder.middle(vae.own(one) / vae.scale)
        with statistics_of(decoder, lambda: decoder.enlarge(small(middle, tile))):
            return in_tiles(decoder.enlarge, middle, (1, vae.factor), tile, overlap)

    return torch.cat([decode(one) for one in latent.split(1)])


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

    def look(piece: Tensor) -> Tensor:
        return torch.cat(vae.encode(piece), dim=1)

    def encode(one: Tensor) -> Tensor:
        one = vae.own(one)
        with statistics_of(vae.encoder, lambda: look(small(one, vae.factor * tile))):
            return in_tiles(look, one, (vae.factor, 1), tile, overlap)

    if max(height, width) <= vae.factor * tile:
        return vae.encode(pixels)
    mean, logvar = torch.cat([encode(one) for one in pixels.split(1)]).chunk(2, dim=1)
    return mean, logvar
