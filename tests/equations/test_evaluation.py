r"""How good is it: the equations of the measures."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ldm.lab.evaluate.frechet import frechet_distance
from ldm.lab.evaluate.reconstruction import psnr, ssim
from ldm.lab.evaluate.understanding import embed_captions, scene_captions, scene_directions
from ldm.postcards import sample_scene
from tests.equations.numbers import agree, normal, tensor
from tests.small import TOKENIZER, small_clip


def test_psnr():
    r"""For two pairs of pictures.

    $$\mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\mathrm{MSE}}$$
    """
    a, b = np.tanh(normal(2, 3, 4, 5)), np.tanh(normal(2, 3, 4, 5, seed=1))
    mse = np.mean((a - b) ** 2, axis=(1, 2, 3))
    agree(psnr(tensor(a), tensor(b)), 10 * np.log10(2**2 / mse))


def test_ssim():
    r"""Window by window, with the Gaussian's weights as one 11 x 11 table.

    $$\frac{(2\mu_a\mu_b + C_1)(2\sigma_{ab} + C_2)}{(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)}$$
    """
    a, b = np.tanh(normal(1, 3, 12, 14)), np.tanh(normal(1, 3, 12, 14, seed=1))
    offsets = np.arange(11) - 5
    g = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    g /= g.sum()
    c1, c2 = 0.01**2, 0.03**2
    values = []
    windows = (sliding_window_view((x[0] + 1) / 2, (11, 11), axis=(1, 2)).reshape(-1, 11, 11) for x in (a, b))
    for p, q in zip(*windows, strict=True):
        mu_a, mu_b = np.sum(g * p), np.sum(g * q)
        var_a, var_b = np.sum(g * (p - mu_a) ** 2), np.sum(g * (q - mu_b) ** 2)
        cov = np.sum(g * (p - mu_a) * (q - mu_b))
        above = (2 * mu_a * mu_b + c1) * (2 * cov + c2)
        values.append(above / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2)))
    agree(ssim(tensor(a), tensor(b)), [np.mean(values)])


def test_frechet_distance():
    r"""The root of the product by its eigenvalues, which are real although the product is not symmetric.

    $$d^2 = \lVert \mu_a - \mu_b \rVert^2 + \mathrm{tr}\,[\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2}]$$
    """
    a, b = normal(20, 3), 1.5 * normal(30, 3, seed=1) + 0.3
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real).sum()
    gap = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    agree(frechet_distance(tensor(a), tensor(b)), gap + np.trace(cov_a) + np.trace(cov_b) - 2 * root, 1e-11)


def test_direction_of_a_scene():
    r"""The mean direction of three captions for each scene.

    $$w_k = \sum_j v_{kj} \,/\, \lVert \sum_j v_{kj} \rVert,$$
    """
    clip = small_clip().double()
    scenes = [sample_scene(np.random.default_rng(i)) for i in range(4)]
    directions = scene_directions(clip, TOKENIZER, scenes, count=3)
    for k, scene in enumerate(scenes):
        v = embed_captions(clip, TOKENIZER, scene_captions(scene, 3)).numpy()
        agree(directions[k], v.sum(axis=0) / np.linalg.norm(v.sum(axis=0)))
