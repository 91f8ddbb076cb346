r"""How a ControlNet is used: which image it reads, how strongly it acts, and at which steps.

Its outputs are multiplied by the strength and added inside the U-Net; those of several ControlNets add up. Composition
forms in the first steps and detail in the last, so a ControlNet that ends early fixes the layout only, and leaves the
rest to the prompt.

*Guess mode* is for prompts that say little or nothing. Only the prompt's prediction gets the residuals, not that of the
negative prompt. So guidance, which amplifies the difference of the two, amplifies the hint. The fine skips would then
dictate every line, so the residual $i$ of $n$, the finest first, counts less:

$$w_i = s \cdot 10^{-\frac{n - 1 - i}{n - 1}}, \qquad i = 0, \ldots, n - 1$$

which is a tenth of the strength $s$ at the finest skip, and all of it in the middle. (The original code has
$0.825^{12 - i}$, within 0.6 % of it.)

Source: Zhang et al. 2023, section 3.4; the original code's `guess_mode`; diffusers' StableDiffusionControlNetPipeline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ldm.adapters.controlnet import ControlNet
from ldm.adapters.hints import check_preparation, prepare_hint
from ldm.diffusion.conditioning import Conditioning, Residuals
from ldm.diffusion.level import Latent, Level
from ldm.errors import LdmError


@dataclass(frozen=True, eq=False)
class Control:
    """A ControlNet and its image, for `model.generate(..., control=Control(network, image))`.

    `image` is the hint itself, such as white edges on black, or with `prepare` ("canny", "scribble", "tile", "inpaint")
    an image that it is made from (`ldm/adapters/hints.py`); `mask`, for "inpaint", is white where the image may change.
    `strength` multiplies the outputs. The ControlNet acts at the steps between the fractions `start` and `end` of all.
    Raises `LdmError` for values outside these ranges.
    """

    network: ControlNet
    image: Image.Image
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    guess: bool = False
    prepare: str | None = None
    mask: Image.Image | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise LdmError(f"a ControlNet's strength of {self.strength}; expected a number such as 0.8")
        if not 0 <= self.start < self.end <= 1:
            raise LdmError(
                f"a ControlNet from {self.start} to {self.end} of the steps; expected 0 <= start < end <= 1"
            )
        check_preparation(self.prepare, self.mask)

    def __call__(self, levels: Sequence[Level], size: tuple[int, int]) -> tuple[Residuals, Residuals | None]:
        """The residuals of the prompt and of the negative prompt, for images of a size (width, height) in pixels."""
        network, weight = self.network, self.network.conv_in.weight
        hint = network.hint(prepare_hint(self.prepare, self.image, size, self.mask).to(weight))

        def residuals(x_t: Latent, level: Level, cond: Conditioning) -> list[Tensor]:
            if not is_active(level, levels, self.start, self.end):
                return []
            t = torch.tensor(level.t, dtype=torch.float32, device=x_t.device)
            pooled = None if cond.pooled is None else cond.pooled.to(weight)
            micro = None if cond.micro is None else cond.micro.to(weight.device)
            out = network(x_t.to(weight), t, cond.context.to(weight), hint, pooled, micro)
            scales = residual_scales(len(out), self.strength, self.guess and not network.pool)
            return [scale * residual for scale, residual in zip(scales, out, strict=True)]

        return residuals, None if self.guess or network.pool else residuals


def residual_scales(count: int, strength: float = 1.0, guess: bool = False) -> list[float]:
    r"""What each of `count` residuals is multiplied by: the strength $s$, or in guess mode $w_i$ (see above)."""
    if not guess:
        return [strength] * count
    return [strength * 10 ** (-(count - 1 - i) / (count - 1)) for i in range(count)]


def is_active(level: Level, levels: Sequence[Level], start: float, end: float) -> bool:
    r"""Whether a ControlNet acts at a noise level: in step i of n (from 0) if $i/n \ge$ start and $(i+1)/n \le$ end.

    Some samplers also evaluate the network between two of the `levels`: that counts to the step that began before.
    """
    steps = len(levels) - 1
    step = max(sum(one.t >= level.t for one in levels[:-1]) - 1, 0)
    return step / steps >= start and (step + 1) / steps <= end
