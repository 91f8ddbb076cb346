r"""Data whose right answer is known: a mixture of Gaussians in the plane.

An image is a point in a space of many dimensions; here it is a point in the plane. The data are k Gaussians, all of
standard deviation s and equal weight, around the means $\mu_k$. A few of them are a cloud with several centres, many
narrow ones in a row are a drawn line (`shapes.py`).

Adding noise keeps the mixture a mixture: at a noise level $x = \alpha\,x_0 + \sigma\,\epsilon$ the means are
$\alpha\,\mu_k$, and every Gaussian has the variance

$$\tau^2 = \alpha^2 s^2 + \sigma^2$$

So the density of the noisy points is known at every level, and with it the *score*, the gradient of its logarithm: an
arrow at each point of the plane that says in which direction data are likelier. A denoising network is trained to know
this field and nothing else; here it is a formula.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.level import Level
from ldm.errors import LdmError

Points = Float[Tensor, "b 2"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians of equal weight in the plane. Raises `LdmError` without a mean, or unless `std` is positive."""

    means: Float[Tensor, "k 2"]
    std: float

    def __post_init__(self) -> None:
        if not len(self.means) or not self.std > 0:
            raise LdmError(
                f"a mixture of {len(self.means)} Gaussians of standard deviation {self.std}; expected at least one, "
                "and a standard deviation above 0"
            )

    def draw(self, count: int, generator: torch.Generator) -> Points:
        """`count` points of the data: a random mean for each, and a Gaussian around it."""
        which = torch.randint(len(self.means), (count,), generator=generator)
        return self.means[which] + self.std * torch.randn(count, 2, generator=generator)

    def variance(self, level: Level) -> float:
        r"""$\tau^2$, the variance of each Gaussian at a noise level."""
        return (level.alpha * self.std) ** 2 + level.sigma**2

    def log_densities(self, x: Points, level: Level) -> Float[Tensor, "b k"]:
        """The logarithm of each Gaussian's density at the points x, its weight 1/k included."""
        squares = ((x[:, None] - level.alpha * self.means) ** 2).sum(dim=-1)
        area = 2 * math.pi * self.variance(level)
        return -squares / (2 * self.variance(level)) - math.log(area * len(self.means))

    def log_density(self, x: Points, level: Level) -> Float[Tensor, "b"]:
        r"""The logarithm of the density of noisy points:

        $$\log p(x) = \log \frac1k \sum_k \frac{1}{2\pi\tau^2}\, e^{-\lVert x - \alpha\mu_k \rVert^2 / 2\tau^2}$$
        """
        return self.log_densities(x, level).logsumexp(dim=-1)

    def likely_mean(self, x: Points, level: Level) -> Points:
        r"""The mean that a noisy point belongs to, or the average of all if that is open:

        $$m(x) = \sum_k r_k(x)\, \mu_k, \qquad
          r_k(x) = \frac{e^{-\lVert x - \alpha\mu_k \rVert^2 / 2\tau^2}}
                        {\sum_j e^{-\lVert x - \alpha\mu_j \rVert^2 / 2\tau^2}}$$

        The weights $r_k$ are a softmax. They are Bayes' rule: how probable each Gaussian is, now that x has been seen.
        """
        return self.log_densities(x, level).softmax(dim=-1) @ self.means

    def score(self, x: Points, level: Level) -> Points:
        r"""The score, an arrow towards likelier points:

        $$\nabla_x \log p(x) = \frac{\alpha\,m(x) - x}{\tau^2}$$

        It is exact, and needs no normalised density: the normalising factor does not depend on x. Source: Song & Ermon
        2019, section 2, who had the idea of learning it.
        """
        return (level.alpha * self.likely_mean(x, level) - x) / self.variance(level)

    def denoise(self, x_t: Points, level: Level) -> tuple[Points, Points]:
        r"""The right answer of a denoising network: the averages of $x_0$ and $\epsilon$, given the noisy point.

        $$\hat\epsilon = -\sigma\, \nabla_x \log p(x_t), \qquad
          \hat x_0 = m + \frac{\alpha\,s^2}{\tau^2} \left(x_t - \alpha\,m\right)$$

        The first equation is why a network that predicts noise knows the score: up to the factor $-\sigma$ they are the
        same. Training with squared errors asks for just these averages, since the average is what makes the squared
        error smallest. Neither divides by $\alpha$ or $\sigma$, so they hold from pure noise to clean points. This
        method is a `Denoise` of `ldm/diffusion/sample.py`. Source: Karras et al. 2022, eq. 3 and appendix B.3.
        """
        mean = self.likely_mean(x_t, level)
        away = (x_t - level.alpha * mean) / self.variance(level)
        return mean + level.alpha * self.std**2 * away, level.sigma * away


def join(*parts: Mixture) -> Mixture:
    """One mixture of several, each weighted by the number of its Gaussians. Raises `LdmError` if their `std` differ."""
    if len({part.std for part in parts}) != 1:
        raise LdmError(f"standard deviations {[part.std for part in parts]}; expected the same in all parts")
    return Mixture(torch.cat([part.means for part in parts]), parts[0].std)
