r"""Fewer whole evaluations: between two of them, the U-Net's deep features are reused.

From one sampling step to the next the deep layers' output changes little: what they say of the image (a dog, to the
left) is settled early, and only the outermost layers follow each change of the latent. So a whole evaluation keeps what
enters the last residual block of the up path, $h_\mathrm{deep}$. The next evaluations take it from there:

$$\epsilon = \mathrm{out}\bigl(\mathrm{block}([\,h_\mathrm{deep},\, \mathrm{conv_{in}}(x_t)\,],\, t)\bigr)$$

Only the first convolution, the last residual block with its transformer, and the output layers are computed, in Stable
Diffusion 1 about an eighth of the work. With one whole evaluation in two, sampling takes a little more than half of the
time. What it costs in quality grows with the distance between steps: with few steps more changes from one to the next.

Source: Ma et al. 2024, "DeepCache: Accelerating Diffusion Models for Free", section 3.2, with the shallowest branch and
whole evaluations at equal distances.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ldm.errors import LdmError
from ldm.nn.hooks import add_hook
from ldm.unet.unet import UNet, UpLevel


class DeepCache:
    """A U-Net's evaluations during one sampling, of which only each `every`-th is whole. Called as the U-Net is.

    Raises `LdmError` for an `every` below 1.
    """

    def __init__(self, unet: UNet, every: int):
        if every < 1:
            raise LdmError(
                f"a whole evaluation every {every} steps; expected 1 (all are whole) or more, such as 2"
            )
        self.unet = unet
        self.every = every
        self.evaluations = 0
        self.deep: Tensor | None = None  # what entered the last block: [b, c, h, w], without its skip

    def __call__(
        self,
        x_t: Float[Tensor, "b c_in h w"],
        t: Shaped[Tensor, "b"] | Shaped[Tensor, ""],
        context: Float[Tensor, "b m d"],
        residuals: Sequence[Tensor] = (),
        **embedded: Any,
    ) -> Float[Tensor, "b c_out h w"]:
        """Whole or not, whichever's turn it is. `residuals` count whole in a whole evaluation only."""
        # A batch of another size (guidance begins or ends) has nothing to reuse.
        whole = self.evaluations % self.every == 0 or self.deep is None or len(self.deep) != len(x_t)
        self.evaluations = 1 if whole else self.evaluations + 1
        if not whole:
            return self.shallow(x_t, t, context, residuals, **embedded)
        handle = add_hook(cast(UpLevel, self.unet.up[-1]).res[-1], self.keep, before=True)
        try:
            return self.unet(x_t, t, context, residuals=residuals, **embedded)
        finally:
            handle.remove()

    def keep(self, block: object, inputs: tuple[Tensor, Tensor]) -> None:
        """Keep the last block's input, without the skip at its end."""
        self.deep = inputs[0][:, : -self.unet.conv_in.out_channels]

    def shallow(
        self,
        x_t: Float[Tensor, "b c_in h w"],
        t: Shaped[Tensor, "b"] | Shaped[Tensor, ""],
        context: Float[Tensor, "b m d"],
        residuals: Sequence[Tensor] = (),
        **embedded: Any,
    ) -> Float[Tensor, "b c_out h w"]:
        """An evaluation of the outermost layers, with the deep features that were kept."""
        assert self.deep is not None
        unet, last = self.unet, cast(UpLevel, self.unet.up[-1])
        time_emb = unet.embed(t.expand(len(x_t)), **embedded)
        skip = unet.conv_in(x_t)
        if residuals:
            skip = skip + residuals[0]
        h = last.res[-1](torch.cat([self.deep, skip], dim=1), time_emb)
        if last.attn:
            h = last.attn[-1](h, context)
        return unet.head(h)
