r"""A large image out of windows of the size that the model knows: MultiDiffusion.

A U-Net runs at any size, but it learned how images look at one. Given a canvas four times as large it sees room for
four images, and fills it with four horses, or with one that has two heads. Bar-Tal et al. (2023) never show it the
canvas. At every step the network is evaluated in overlapping windows of the usual size, each with the same prompt, and
where windows overlap their answers are averaged:

$$\hat\epsilon(x)_p = \frac{1}{|\{i : p \in W_i\}|} \sum_{i \,:\, p \in W_i} \hat\epsilon(x_{W_i})_p$$

for a position $p$ and the windows $W_i$ around it; $\hat x_0$ likewise. That is the answer closest, in squares, to what
all windows ask for. Since neighbours share most of their latent they also agree from step to step, so no seam shows.

The paper averages the latents after a step. A step of DDIM is linear in both estimates, so that is the same. And since
the average is a `Denoise` like any other, it works with every sampler, and none knows of it.

Windows alone make wide landscapes, where anything may repeat. For one subject the composition must come from elsewhere:
from a small image (`hires.py`), or from an image to start from.

Source: Bar-Tal et al. 2023, eq. 5, with equal weights.
"""

from collections.abc import Iterable

import torch

from ldm.diffusion.conditioning import Conditioning
from ldm.diffusion.level import Latent, Level
from ldm.diffusion.sample import Denoise
from ldm.errors import LdmError
from ldm.vae.tiles import tile_starts

LEAST = 8  # latent positions along a side; in less there is hardly anything to see


def in_windows(denoise: Denoise, side: int) -> Denoise:
    """The average of `denoise` over windows of `side` latent positions that overlap by half, along each side.

    A latent no larger than a window is denoised as it is.
    """

    def averaged(x_t: Latent, level: Level) -> tuple[Latent, Latent]:
        height, width = x_t.shape[-2:]
        tops, lefts = (tile_starts(length, side, side // 2) for length in (height, width))
        x0, eps, count = torch.zeros_like(x_t), torch.zeros_like(x_t), x_t.new_zeros(height, width)
        for top in tops:
            for left in lefts:
                rows, columns = slice(top, top + side), slice(left, left + side)
                window_x0, window_eps = denoise(x_t[..., rows, columns], level)
                x0[..., rows, columns] += window_x0
                eps[..., rows, columns] += window_eps
                count[rows, columns] += 1
        return x0 / count, eps / count

    return averaged


def windowed(denoise: Denoise, window: int, factor: int, conds: Iterable[Conditioning]) -> Denoise:
    """As `in_windows`, for windows of so many pixels and a VAE that makes one position of `factor` x `factor`.

    Raises `LdmError` for a window that is too small or no multiple of the factor, and for conditionings with something
    in them that belongs to places of the whole image.
    """
    if window % factor or window < LEAST * factor:
        raise LdmError(
            f"windows of {window} pixels; expected a multiple of {factor}, at least {LEAST * factor}: best the size "
            "that the model was trained at"
        )
    if any(cond.channels is not None or cond.residuals is not None for cond in conds):
        raise LdmError(
            "windows with an inpainting model or a network beside the U-Net, which would have to be cut up too; leave "
            "`window` out"
        )
    return in_windows(denoise, window // factor)
