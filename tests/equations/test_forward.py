r"""Noise comes in, and what the network is asked for.

Each test quotes an equation as the pages show it and computes it in numpy, from the equation and not from the code;
then both must agree.
"""

import numpy as np
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.guidance import classifier_free_guidance, guidance_at, rescale_guidance
from ldm.diffusion.level import Level, vp_level_of
from ldm.diffusion.predict import training_target, x0_and_eps
from ldm.diffusion.schedule import add_noise, make_alpha_bar, make_betas, zero_terminal_snr
from ldm.inpaint import keep
from tests.equations.numbers import agree, normal, tensor

A_T = 0.3  # alpha_bar at t
HERE = Level(0, np.sqrt(A_T).item(), np.sqrt(1 - A_T).item())


def test_forward_process():
    r"""The mean is what becomes of a picture without noise, the variance what becomes of noise without a picture.

    $$q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\, x_0,\; (1 - \bar\alpha_t)\, I\right),
      \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$$
    """
    x0, nothing, one = normal(2, 3), np.zeros((2, 3)), np.ones((2, 3))
    mean = add_noise(tensor(x0), tensor(nothing), tensor(A_T))
    deviation = add_noise(tensor(nothing), tensor(one), tensor(A_T))
    agree(mean, np.sqrt(A_T) * x0)
    agree(deviation**2, (1 - A_T) * one)

    betas = make_betas(NoiseConfig()).double().numpy()
    products = [np.prod(1 - betas[: t + 1]) for t in range(len(betas))]
    agree(make_alpha_bar(NoiseConfig()), products, tolerance=1e-5)  # the schedule is in float32


def test_noised_latent():
    r"""Two pictures, each at a noise level of its own.

    $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$$
    """
    x0, eps, a = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1), np.array([0.3, 0.9])
    x_t = add_noise(tensor(x0), tensor(eps), tensor(a))
    for i in range(2):
        agree(x_t[i], np.sqrt(a[i]) * x0[i] + np.sqrt(1 - a[i]) * eps[i])


def test_zero_terminal_snr():
    r"""The roots of alpha-bar are shifted, so that the last is 0, and stretched, so that the first stays.

    $$\sqrt{\bar\alpha_t} \leftarrow \left(\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_{T-1}}\right)
      \frac{\sqrt{\bar\alpha_0}}{\sqrt{\bar\alpha_0} - \sqrt{\bar\alpha_{T-1}}}$$
    """
    betas = np.linspace(0.01, 0.2, 12)
    root = np.sqrt(np.cumprod(1 - betas))
    bent = torch.cumprod(1 - zero_terminal_snr(tensor(betas)), dim=0).sqrt()
    agree(bent, (root - root[-1]) * root[0] / (root[0] - root[-1]))


def test_v_of_picture_and_noise():
    r"""What a network that predicts v learns to say.

    $$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$$
    """
    x0, eps, a = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1), np.array([0.3, 0.9])
    v = training_target("v", tensor(x0), tensor(eps), tensor(a))
    for i in range(2):
        agree(v[i], np.sqrt(a[i]) * eps[i] - np.sqrt(1 - a[i]) * x0[i])


def test_picture_of_noise():
    r"""The guess of the finished latent.

    $$\hat x_0 = \frac{x_t - \sigma\,\hat\epsilon}{\alpha}$$

    $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon}{\sqrt{\bar\alpha_t}}$$
    """
    x_t, eps = normal(2, 3), normal(2, 3, seed=1)
    x0, same = x0_and_eps("eps", tensor(eps), tensor(x_t), HERE)
    agree(x0, (x_t - np.sqrt(1 - A_T) * eps) / np.sqrt(A_T))
    agree(same, eps)


def test_picture_and_noise_of_v():
    r"""Back from v; with the v of `test_v_of_picture_and_noise` it leads to where that began.

    $$\hat x_0 = \alpha\,x_t - \sigma\,\hat v, \qquad \hat\epsilon = \sigma\,x_t + \alpha\,\hat v$$
    """
    x_t, v = normal(2, 3), normal(2, 3, seed=1)
    x0, eps = x0_and_eps("v", tensor(v), tensor(x_t), HERE)
    agree(x0, np.sqrt(A_T) * x_t - np.sqrt(1 - A_T) * v)
    agree(eps, np.sqrt(1 - A_T) * x_t + np.sqrt(A_T) * v)
    agree(training_target("v", x0, eps, tensor([A_T, A_T])), v)


def test_noise_of_picture():
    r"""What is not picture is noise.

    $$\hat\epsilon = \frac{x_t - \alpha\,\hat x_0}{\sigma}$$
    """
    x_t, x0 = normal(2, 3), normal(2, 3, seed=1)
    same, eps = x0_and_eps("x0", tensor(x0), tensor(x_t), HERE)
    agree(eps, (x_t - np.sqrt(A_T) * x0) / np.sqrt(1 - A_T))
    agree(same, x0)


def test_guidance_in_both_forms():
    r"""One function and two ways to write it: g counts from 1, w from 0.

    $$\tilde\epsilon = \epsilon_\varnothing + g\,(\epsilon_c - \epsilon_\varnothing)$$

    $$\tilde\epsilon = (1 + w)\,\epsilon_c - w\,\epsilon_\varnothing$$

    $$\epsilon_\varnothing + g\,(\epsilon_c - \epsilon_\varnothing)
      = g\,\epsilon_c - (g - 1)\,\epsilon_\varnothing
      = (1 + w)\,\epsilon_c - w\,\epsilon_\varnothing$$
    """
    uncond, cond = normal(2, 3), normal(2, 3, seed=1)
    for g in (0.0, 1.0, 7.5):
        w = g - 1
        guided = classifier_free_guidance(tensor(uncond), tensor(cond), g)
        agree(guided, uncond + g * (cond - uncond))
        agree(guided, g * cond - (g - 1) * uncond)
        agree(guided, (1 + w) * cond - w * uncond)


def test_guidance_in_an_interval():
    r"""$$g(\sigma) = \begin{cases} g & \text{if } \sigma_\mathrm{low} < \sigma \le \sigma_\mathrm{high} \\
                               1 & \text{otherwise} \end{cases}$$
    """
    low, high, g = 0.28, 5.42, 7.5
    for sigma in (0.1, 0.3, 1.0, 5.4, 5.5, 12.0):
        agree(guidance_at(vp_level_of(0, sigma), g, (low, high)), g if low < sigma <= high else 1.0)


def test_guidance_rescale():
    r"""A share of the guided prediction is given the standard deviation of the conditional one, picture by picture.

    $$\tilde v \leftarrow \phi\, \tilde v\, \frac{\mathrm{std}(v_c)}{\mathrm{std}(\tilde v)} + (1 - \phi)\, \tilde v$$
    """
    guided, cond, phi = 3 * normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1), 0.7
    rescaled = rescale_guidance(tensor(guided), tensor(cond), phi)
    for i in range(2):
        agree(rescaled[i], phi * guided[i] * np.std(cond[i]) / np.std(guided[i]) + (1 - phi) * guided[i])


def test_inpainting_keeps_what_is_not_masked():
    r"""Where the mask m is 0, the picture's own latent comes back, at the noise level just reached.

    $$x \leftarrow m \odot x + (1 - m) \odot (\alpha\,x_0 + \sigma\,\epsilon)$$
    """
    x, x0, eps = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1), normal(2, 4, 3, 5, seed=2)
    m = normal(1, 1, 3, 5, seed=3) > 0
    restore = keep(tensor(x0), tensor(eps), torch.from_numpy(m))
    agree(restore(tensor(x), HERE), m * x + (1 - m) * (np.sqrt(A_T) * x0 + np.sqrt(1 - A_T) * eps))
