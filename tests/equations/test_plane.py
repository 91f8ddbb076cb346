r"""Two dimensions: the exact score of a mixture, and the field that is learned.

Each test quotes an equation as the pages show it and computes it in numpy, from the equation and not from the code;
then both must agree.
"""

import numpy as np
import torch

from ldm.diffusion.level import Level, circle_levels
from ldm.plane.field import Field, learned, velocity_loss
from ldm.plane.mixture import Mixture
from tests.equations.numbers import agree, normal, softmax, tensor

HERE = Level(0.3, 0.7, 0.3)
MEANS, STD = normal(4, 2, seed=5), 0.4
TAU2 = 0.7**2 * STD**2 + 0.3**2
MIXTURE = Mixture(tensor(MEANS), STD)


def squares(x: np.ndarray) -> np.ndarray:
    r"""$\lVert x - \alpha\mu_k \rVert^2$ of every point and mean."""
    return ((x[:, None] - 0.7 * MEANS) ** 2).sum(axis=-1)


def likely_mean(x: np.ndarray) -> np.ndarray:
    return softmax(-squares(x) / (2 * TAU2)) @ MEANS


def test_noisy_density():
    r"""Each Gaussian is moved and widened; all together they are the density.

    $$\tau^2 = \alpha^2 s^2 + \sigma^2$$

    $$\log p(x) = \log \frac1k \sum_k \frac{1}{2\pi\tau^2}\, e^{-\lVert x - \alpha\mu_k \rVert^2 / 2\tau^2}$$
    """
    agree(MIXTURE.variance(HERE), TAU2)
    x = normal(6, 2)
    density = np.mean(np.exp(-squares(x) / (2 * TAU2)) / (2 * np.pi * TAU2), axis=-1)
    agree(MIXTURE.log_density(tensor(x), HERE), np.log(density))


def test_likely_mean():
    r"""Bayes' rule, term by term.

    $$m(x) = \sum_k r_k(x)\, \mu_k, \qquad
      r_k(x) = \frac{e^{-\lVert x - \alpha\mu_k \rVert^2 / 2\tau^2}}
                    {\sum_j e^{-\lVert x - \alpha\mu_j \rVert^2 / 2\tau^2}}$$
    """
    x = normal(6, 2)
    powers = np.exp(-squares(x) / (2 * TAU2))
    agree(MIXTURE.likely_mean(tensor(x), HERE), powers / powers.sum(axis=-1, keepdims=True) @ MEANS)


def test_score():
    r"""By the formula; and by the slope of the log density, one small step to either side.

    $$\nabla_x \log p(x) = \frac{\alpha\,m(x) - x}{\tau^2}$$
    """
    x = normal(6, 2)
    score = MIXTURE.score(tensor(x), HERE)
    agree(score, (0.7 * likely_mean(x) - x) / TAU2)
    for i, step in enumerate(1e-5 * np.eye(2)):
        above, below = (MIXTURE.log_density(tensor(x + way * step), HERE) for way in (1, -1))
        agree(score[:, i], (above - below) / 2e-5, tolerance=1e-8)


def test_what_a_denoiser_should_answer():
    r"""The noise is the score up to a factor, and the clean point is what remains.

    $$\hat\epsilon = -\sigma\, \nabla_x \log p(x_t), \qquad
      \hat x_0 = m + \frac{\alpha\,s^2}{\tau^2} \left(x_t - \alpha\,m\right)$$
    """
    x_t = normal(6, 2)
    m = likely_mean(x_t)
    x0, eps = MIXTURE.denoise(tensor(x_t), HERE)
    agree(eps, -0.3 * (0.7 * m - x_t) / TAU2)
    agree(x0, m + 0.7 * STD**2 / TAU2 * (x_t - 0.7 * m))


def test_quarter_circle():
    r"""Four levels, at 90, 60, 30 and 0 degrees.

    $$\alpha = \cos\frac{\pi t}{2}, \qquad \sigma = \sin\frac{\pi t}{2}$$
    """
    levels = circle_levels(3)
    agree([level.t for level in levels], [1, 2 / 3, 1 / 3, 0])
    agree([level.alpha for level in levels], [0, 1 / 2, np.sqrt(3) / 2, 1])
    agree([level.sigma for level in levels], [1, np.sqrt(3) / 2, 1 / 2, 0])


def test_velocity_loss():
    r"""With a network that we can call: two points, in two dimensions each.

    $$L = \frac{1}{2b} \sum_i \bigl\lVert v_\theta(x_t, t, c) - (\alpha\,\epsilon - \sigma\,x_0) \bigr\rVert^2, \qquad
      x_t = \alpha\,x_0 + \sigma\,\epsilon$$
    """
    x0, eps, t, label = normal(2, 2), normal(2, 2, seed=1), np.array([0.2, 0.7]), np.array([[1.0], [0.0]])
    alpha, sigma = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
    field = Field(parts=1).double()
    x_t = np.stack([alpha[i] * x0[i] + sigma[i] * eps[i] for i in range(2)])
    v = field(tensor(x_t), tensor(t), tensor(label)).detach().numpy()
    loss = velocity_loss(field, *map(tensor, (x0, eps, t, label)))
    agree(loss, sum(np.sum((v[i] - (alpha[i] * eps[i] - sigma[i] * x0[i])) ** 2) for i in range(2)) / (2 * 2))


def test_estimates_of_a_velocity():
    r"""Velocity and place together lead to both ends.

    $$\hat x_0 = \alpha\,x_t - \sigma\,v_\theta, \qquad \hat\epsilon = \sigma\,x_t + \alpha\,v_\theta$$
    """
    field, x_t = Field(parts=1), torch.from_numpy(normal(3, 2)).float()
    v = field(x_t, torch.full((3,), 1 / 3), torch.zeros(3, 1)).detach().numpy()
    x0, eps = learned(field, 1)(x_t, circle_levels(3)[2])
    agree(x0, np.sqrt(3) / 2 * x_t.numpy() - 1 / 2 * v, tolerance=1e-6)
    agree(eps, 1 / 2 * x_t.numpy() + np.sqrt(3) / 2 * v, tolerance=1e-6)
