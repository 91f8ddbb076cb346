r"""From noise to a picture: the equations of the samplers, and of the noise levels in their other form."""

import numpy as np
from ldm.diffusion.ddim import ddim_sigma, ddim_step
from ldm.diffusion.ddpm import ddpm_step, posterior
from ldm.diffusion.dpmpp_2m import dpmpp_2m_step, log_snr
from ldm.diffusion.euler import euler_step
from ldm.diffusion.euler_ancestral import down_and_up, euler_ancestral_step
from ldm.diffusion.heun import heun_step
from ldm.diffusion.lms import lms_step, lms_weights
from ldm.diffusion.plms import extrapolated_eps
from ldm.diffusion.sigmas import faded, karras_sigmas, piled, sigma_of

from ldm.diffusion.predict import x0_and_eps
from tests.equations.numbers import agree, normal, tensor

A_BEFORE, A_T, A_PREV = 0.1, 0.3, 0.55  # alpha_bar one stride before, at t, and at the lower t'
SIGMA, SIGMA_PREV = 5.0, 3.0


def test_ddim_noise():
    r"""None at eta 0.

    $$\sigma_t = \eta \sqrt{\frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}}$$
    """
    for eta in (0.0, 0.4, 1.0):
        sigma = eta * np.sqrt((1 - A_PREV) / (1 - A_T)) * np.sqrt(1 - A_T / A_PREV)
        agree(ddim_sigma(tensor(A_T), tensor(A_PREV), eta), sigma)


def test_ddim_update():
    r"""With noise, and in the tour without.

    $$x_{t'} = \sqrt{\bar\alpha_{t'}}\,\hat x_0
             + \sqrt{1 - \bar\alpha_{t'} - \sigma_t^2}\;\hat\epsilon + \sigma_t\, z$$

    $$x_{t'} = \sqrt{\bar\alpha_{t'}}\,\hat x_0 + \sqrt{1-\bar\alpha_{t'}}\,\hat\epsilon$$
    """
    x0, eps, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    sigma = 0.4 * np.sqrt((1 - A_PREV) / (1 - A_T)) * np.sqrt(1 - A_T / A_PREV)
    noisy = ddim_step(tensor(x0), tensor(eps), tensor(A_T), tensor(A_PREV), 0.4, tensor(z))
    agree(noisy, np.sqrt(A_PREV) * x0 + np.sqrt(1 - A_PREV - sigma**2) * eps + sigma * z)
    plain = ddim_step(tensor(x0), tensor(eps), tensor(A_T), tensor(A_PREV))
    agree(plain, np.sqrt(A_PREV) * x0 + np.sqrt(1 - A_PREV) * eps)


def test_posterior():
    r"""By the equation, and by Bayes' rule: what the picture says of $x_{t'}$ times what $x_t$ says of it.

    $$\tilde\mu = \frac{\sqrt{\bar\alpha_{t'}}\,\beta}{1-\bar\alpha_t}\,x_0
                + \frac{\sqrt{1-\beta}\,(1-\bar\alpha_{t'})}{1-\bar\alpha_t}\,x_t,
      \qquad \tilde\beta = \frac{1-\bar\alpha_{t'}}{1-\bar\alpha_t}\,\beta,
      \qquad \beta = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}$$
    """
    x_t, x0 = normal(2, 3), normal(2, 3, seed=1)
    mean, variance = posterior(tensor(x_t), tensor(x0), tensor(A_T), tensor(A_PREV))
    beta = 1 - A_T / A_PREV
    agree(
        mean,
        np.sqrt(A_PREV) * beta / (1 - A_T) * x0 + np.sqrt(1 - beta) * (1 - A_PREV) / (1 - A_T) * x_t,
    )
    agree(variance, (1 - A_PREV) / (1 - A_T) * beta)

    precision = 1 / (1 - A_PREV) + (1 - beta) / beta
    agree(variance, 1 / precision)
    agree(mean, (np.sqrt(A_PREV) * x0 / (1 - A_PREV) + np.sqrt(1 - beta) * x_t / beta) / precision)


def test_ddpm_step():
    r"""With either of the two variances.

    $$x_{t'} = \tilde\mu(x_t, \hat x_0) + \sigma z$$
    """
    x_t, x0, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    beta = 1 - A_T / A_PREV
    mean = np.sqrt(A_PREV) * beta / (1 - A_T) * x0 + np.sqrt(1 - beta) * (1 - A_PREV) / (1 - A_T) * x_t
    for name, variance in (("fixed_small", (1 - A_PREV) / (1 - A_T) * beta), ("fixed_large", beta)):
        step = ddpm_step(tensor(x_t), tensor(x0), tensor(A_T), tensor(A_PREV), tensor(z), name)
        agree(step, mean + np.sqrt(variance) * z)


def test_piled_latent():
    r"""The same latent in the form of Karras et al. 2022.

    $$y = x_0 + \sigma\,\epsilon = \frac{x}{\sqrt{\bar\alpha}}, \qquad
      \sigma = \sqrt{\frac{1-\bar\alpha}{\bar\alpha}}, \qquad \bar\alpha = \frac{1}{1 + \sigma^2}$$
    """
    x0, eps = normal(2, 3), normal(2, 3, seed=1)
    x, sigma = np.sqrt(A_T) * x0 + np.sqrt(1 - A_T) * eps, np.sqrt((1 - A_T) / A_T)
    agree(sigma_of(tensor(A_T)), sigma)
    agree(1 / (1 + sigma**2), A_T)
    agree(piled(tensor(x), tensor(A_T)), x0 + sigma * eps)
    agree(faded(tensor(x0 + sigma * eps), tensor(A_T)), x)


def test_way_from_noise_to_picture():
    r"""For latents of variance 4 the best guess of $x_0$ is known, and so is the way: $y \propto \sqrt{4 + \sigma^2}$.

    $$\frac{dy}{d\sigma} = \frac{y - \hat x_0(y, \sigma)}{\sigma} = \hat\epsilon,$$
    """
    start, h = normal(2, 3), 1e-4
    y = start * np.sqrt(4 + SIGMA**2)
    x0 = y * 4 / (4 + SIGMA**2)
    slope = start * (np.sqrt(4 + (SIGMA + h) ** 2) - np.sqrt(4 + (SIGMA - h) ** 2)) / (2 * h)
    agree(slope, (y - x0) / SIGMA, tolerance=1e-8)
    a = tensor(1 / (1 + SIGMA**2))
    _, eps = x0_and_eps("x0", tensor(x0), faded(tensor(y), a), a)
    agree(eps, (y - x0) / SIGMA)


def test_karras_sigmas():
    r"""Seven levels from 14.6 to 0.03.

    $$\sigma_i = \left(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1} \left(\sigma_{\min}^{1/\rho}
                 - \sigma_{\max}^{1/\rho}\right)\right)^{\rho}, \qquad i = 0 \ldots n-1$$
    """
    n, low, high, rho = 7, 0.03, 14.6, 7.0
    expected = [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)
    ]
    agree(karras_sigmas(n, low, high, rho), expected)


def test_euler_step():
    r"""Straight on.

    $$y' = y + (\sigma' - \sigma)\,\hat\epsilon$$
    """
    y, eps = normal(2, 3), normal(2, 3, seed=1)
    step = euler_step(tensor(y), tensor(eps), tensor(SIGMA), tensor(SIGMA_PREV))
    agree(step, y + (SIGMA_PREV - SIGMA) * eps)


def test_heun_step():
    r"""In the mean of two directions.

    $$y' = y + (\sigma' - \sigma)\,\tfrac12 (\hat\epsilon + \hat\epsilon')$$
    """
    y, eps, there = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    step = heun_step(tensor(y), tensor(eps), tensor(there), tensor(SIGMA), tensor(SIGMA_PREV))
    agree(step, y + (SIGMA_PREV - SIGMA) * (eps + there) / 2)


def test_euler_ancestral_levels():
    r"""How far down, and how far up again; the noise is DDPM's, at full brightness.

    $$\sigma_{up}^2 = \frac{\sigma'^2 (\sigma^2 - \sigma'^2)}{\sigma^2}, \qquad
      \sigma_{down}^2 = \sigma'^2 - \sigma_{up}^2$$
    """
    up_squared = SIGMA_PREV**2 * (SIGMA**2 - SIGMA_PREV**2) / SIGMA**2
    down, up = down_and_up(tensor(SIGMA), tensor(SIGMA_PREV))
    agree(up**2, up_squared)
    agree(down**2, SIGMA_PREV**2 - up_squared)
    a, a_prev = 1 / (1 + SIGMA**2), 1 / (1 + SIGMA_PREV**2)
    agree(up**2, (1 - a_prev) / (1 - a) * (1 - a / a_prev) / a_prev)


def test_euler_ancestral_step():
    r"""Down with Euler, up with noise.

    $$y' = y + (\sigma_{down} - \sigma)\,\hat\epsilon + \sigma_{up}\, z$$
    """
    y, eps, z = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    up = np.sqrt(SIGMA_PREV**2 * (SIGMA**2 - SIGMA_PREV**2) / SIGMA**2)
    down = np.sqrt(SIGMA_PREV**2 - up**2)
    step = euler_ancestral_step(tensor(y), tensor(eps), tensor(SIGMA), tensor(SIGMA_PREV), tensor(z))
    agree(step, y + (down - SIGMA) * eps + up * z)


def test_lms_weights():
    r"""The integral by Gauss and Legendre's points, which for a cubic are exact; the code integrates the polynomial.

    $$w_j = \int_{\sigma}^{\sigma'} \prod_{k \ne j} \frac{s - \sigma_k}{\sigma_j - \sigma_k}\, ds$$
    """
    sigmas, sigma_prev = [14.0, 9.0, 6.5, 5.0], 3.0
    points, shares = np.polynomial.legendre.leggauss(4)
    s = sigmas[-1] + (sigma_prev - sigmas[-1]) * (points + 1) / 2
    expected = []
    for j in range(4):
        factors = [(s - sigmas[k]) / (sigmas[j] - sigmas[k]) for k in range(4) if k != j]
        expected.append((sigma_prev - sigmas[-1]) / 2 * np.sum(shares * np.prod(factors, axis=0)))
    agree(lms_weights(sigmas, sigma_prev), expected)


def test_lms_step():
    r"""Along a weighted sum of the last directions.

    $$y' = y + \sum_j w_j\,\hat\epsilon_j$$
    """
    y, eps, w = normal(2, 3), [normal(2, 3, seed=s) for s in (1, 2, 3)], [-2.0, 0.5, 0.1]
    agree(lms_step(tensor(y), [tensor(e) for e in eps], w), y + sum(w[j] * eps[j] for j in range(3)))


def test_plms_extrapolation():
    r"""From two, three and four guesses; index 0 is the newest.

    $$\epsilon' = \tfrac12 (3\epsilon_0 - \epsilon_1), \quad
      \tfrac1{12} (23\epsilon_0 - 16\epsilon_1 + 5\epsilon_2), \quad
      \tfrac1{24} (55\epsilon_0 - 59\epsilon_1 + 37\epsilon_2 - 9\epsilon_3)$$
    """
    e = [normal(2, 3, seed=s) for s in range(4)]
    oldest_first = [tensor(e[i]) for i in (3, 2, 1, 0)]
    agree(extrapolated_eps(oldest_first[2:]), (3 * e[0] - e[1]) / 2)
    agree(extrapolated_eps(oldest_first[1:]), (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12)
    agree(extrapolated_eps(oldest_first), (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24)


def test_log_snr():
    r"""Half the logarithm of the signal-to-noise ratio.

    $$\lambda = \log\frac{\alpha}{\sigma} = \tfrac12 \log\frac{\bar\alpha}{1-\bar\alpha}$$
    """
    agree(log_snr(tensor(A_T)), np.log(np.sqrt(A_T) / np.sqrt(1 - A_T)))
    agree(log_snr(tensor(A_T)), np.log(A_T / (1 - A_T)) / 2)


def test_dpmpp_2m_update():
    r"""Two looks at the picture, at strides of different length.

    $$x_{t'} = \frac{\sigma'}{\sigma}\,x_t - \alpha' (e^{-h} - 1)\,D, \qquad
      D = \hat x_0 + \frac{h}{2 h_{before}} (\hat x_0 - \hat x_0^{before})$$
    """
    x_t, x0, before = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    alpha, sigma = np.sqrt([A_BEFORE, A_T, A_PREV]), np.sqrt([1 - A_BEFORE, 1 - A_T, 1 - A_PREV])
    h_before, h = np.diff(np.log(alpha / sigma))
    d = x0 + h / (2 * h_before) * (x0 - before)
    step = dpmpp_2m_step(
        tensor(x_t), tensor(x0), tensor(before), tensor(A_BEFORE), tensor(A_T), tensor(A_PREV)
    )
    agree(step, sigma[2] / sigma[1] * x_t - alpha[2] * (np.exp(-h) - 1) * d)
