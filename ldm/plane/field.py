r"""A field that is learned: a network of five thousand weights, trained on points alone.

Nobody knows the score of the images of this world. But noise can be added to any image, and a network can be asked to
tell the two apart; squared errors then teach it the average answer, and the average answer is the score
(`Mixture.denoise`). Here we can check what it has learned against the truth.

The levels are those of `circle_levels`, and the point moves along a quarter of an ellipse from $x_0$ to $\epsilon$.
Asked for $\epsilon$ alone, the network could not be used at pure noise, and asked for $x_0$ alone not at clean points.
So it predicts the velocity of that movement, v, as some Stable Diffusion models do (`ldm/diffusion/predict.py`).
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.diffusion.guidance import classifier_free_guidance
from ldm.diffusion.level import Level
from ldm.diffusion.sample import Denoise
from ldm.plane.mixture import Mixture, Points

FREQUENCIES = (1, 3, 6)  # of the waves in which the network is told the position
NO_LABEL = 0.2  # how often training leaves out which part a point belongs to


class Field(nn.Module):
    """A multilayer perceptron from a point, a time and a part of the data to the velocity there."""

    def __init__(self, parts: int, width: int = 64):
        super().__init__()
        inputs = 2 + 4 * len(FREQUENCIES) + 2 + parts
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(
        self, x: Points, t: Float[Tensor, "b"], label: Float[Tensor, "b parts"]
    ) -> Float[Tensor, "b 2"]:
        """`t` in [0, 1]; `label` has a 1 for the part that is asked for, and only zeros for all of them.

        A perceptron learns smooth functions first, and near the data the field is not smooth. Waves of the position
        let it tell apart what is close together, as waves of the timestep do in `ldm/unet/embedding.py`.
        """
        waves = [wave(f * x) for f in FREQUENCIES for wave in (torch.sin, torch.cos)]
        time = torch.stack([t, (t + 0.02).log()], dim=-1)
        return self.layers(torch.cat([x, *waves, time, label], dim=-1))


def velocity_loss(field: Field, x0: Points, eps: Points, t: Tensor, label: Tensor) -> Float[Tensor, ""]:
    r"""The mean squared error of the velocity, each point at a time of its own:

    $$L = \frac{1}{2b} \sum_i \bigl\lVert v_\theta(x_t, t, c) - (\alpha\,\epsilon - \sigma\,x_0) \bigr\rVert^2, \qquad
      x_t = \alpha\,x_0 + \sigma\,\epsilon$$

    Source: Salimans & Ho 2022, appendix D.
    """
    alpha, sigma = (math.pi / 2 * t[:, None]).cos(), (math.pi / 2 * t[:, None]).sin()
    return F.mse_loss(field(alpha * x0 + sigma * eps, t, label), alpha * eps - sigma * x0)


def train_field(
    field: Field, parts: Sequence[Mixture], steps: int, generator: torch.Generator, batch: int = 512
) -> Iterator[float]:
    """Train the field on points of these parts; yields the loss after each step.

    A point's part is left out with a probability of `NO_LABEL`, so that one network learns the field of each part and
    that of all of them, as guidance needs. The learning rate falls along half a cosine.
    """
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
    sizes = torch.tensor([float(len(part.means)) for part in parts])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 + math.cos(math.pi * step / steps))
        which = torch.multinomial(sizes, batch, replacement=True, generator=generator)
        choices = torch.stack([part.draw(batch, generator) for part in parts])
        x0, eps = choices[which, torch.arange(batch)], torch.randn(batch, 2, generator=generator)
        t, told = torch.rand(batch, generator=generator), torch.rand(batch, 1, generator=generator) > NO_LABEL
        loss = velocity_loss(field, x0, eps, t, F.one_hot(which, len(parts)) * told.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def learned(field: Field, parts: int, part: int | None = None) -> Denoise:
    r"""The trained field as a `Denoise`, of one part of the data or of all (None), at `circle_levels`:

    $$\hat x_0 = \alpha\,x_t - \sigma\,v_\theta, \qquad \hat\epsilon = \sigma\,x_t + \alpha\,v_\theta$$
    """
    label = torch.zeros(1, parts) if part is None else F.one_hot(torch.tensor([part]), parts).float()

    @torch.no_grad()
    def denoise(x_t: Points, level: Level) -> tuple[Points, Points]:
        v = field(x_t, torch.full((len(x_t),), float(level.t)), label.expand(len(x_t), -1))
        return level.alpha * x_t - level.sigma * v, level.sigma * x_t + level.alpha * v

    return denoise


def guided(uncond: Denoise, cond: Denoise, scale: float) -> Denoise:
    """Classifier-free guidance of two fields: past that of the whole data, through that of the part asked for."""

    def denoise(x_t: Points, level: Level) -> tuple[Points, Points]:
        (x0, eps), (x0_part, eps_part) = uncond(x_t, level), cond(x_t, level)
        return classifier_free_guidance(x0, x0_part, scale), classifier_free_guidance(eps, eps_part, scale)

    return denoise
