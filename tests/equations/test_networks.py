r"""What the networks compute: attention, the embedding of the timestep, CLIP's space, the VAE's Gaussian."""

import math

import numpy as np
import torch
from torch import nn

from ldm.backend.int8 import quantize, quantize_weight
from ldm.backend.winograd import FOUR, TWO
from ldm.config import AddedConfig
from ldm.nn.attention import attention, attention_weights
from ldm.text.clip import contrastive_loss
from ldm.text.prompt import weighted_states
from ldm.unet.added import AddedEmbedding
from ldm.unet.embedding import timestep_embedding
from ldm.unet.guidance_embedding import guidance_embedding
from ldm.unet.transformer import FeedForward
from ldm.vae.tiles import blend_weights, fixed_statistics
from ldm.vae.tiny import TinyBlock, TinyDecoder
from ldm.vae.vae import kl_divergence, reparametrise
from tests.equations.numbers import agree, normal, softmax, tensor


def test_attention():
    r"""Both faces of it: the kernel, and by hand.

    $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{d}}\right) V$$
    """
    d = 4
    q, k, v = normal(1, 2, 5, d), normal(1, 2, 7, d, seed=1), normal(1, 2, 7, d, seed=2)
    expected = softmax(q @ np.swapaxes(k, -1, -2) / np.sqrt(d)) @ v
    agree(attention(tensor(q), tensor(k), tensor(v)), expected)
    agree(attention_weights(tensor(q), tensor(k)) @ tensor(v), expected)


def test_timestep_embedding():
    r"""The code computes it in float32, whatever the model's precision.

    $$\mathrm{emb}(t) = [\cos(t f_0), \ldots, \cos(t f_{n-1}), \sin(t f_0), \ldots, \sin(t f_{n-1})],
      \qquad f_i = 10000^{-i/n}, \quad n = \mathrm{width}/2$$
    """
    n = 5
    t, f = np.array([0.0, 1.0, 3.5, 20.0]), np.array([10000.0 ** (-i / n) for i in range(n)])
    expected = [[math.cos(s * g) for g in f] + [math.sin(s * g) for g in f] for s in t]
    agree(timestep_embedding(tensor(t), 2 * n), expected, tolerance=5e-6)


def test_added_embedding():
    r"""Two numbers after the pooled text; their sinusoids are in float32, as those of the timestep.

    $$W_2\,\mathrm{SiLU}\bigl(W_1\,[p, \mathrm{emb}(n_1), \ldots, \mathrm{emb}(n_k)] + b_1\bigr) + b_2$$
    """
    layer = AddedEmbedding(AddedConfig(pooled_width=3, numbers=5, sinusoid_width=2), width=4).double()
    w_1, b_1, w_2, b_2 = (p.detach().numpy() for p in layer.parameters())
    p, numbers = normal(1, 3), np.array([[1.0, 2.0, 0.0, 3.0, 6.0]])
    waves = [[wave for n in row for wave in (math.cos(n), math.sin(n))] for row in numbers]
    hidden = np.concatenate([p, waves], axis=1) @ w_1.T + b_1
    agree(layer(tensor(p), tensor(numbers)), (hidden / (1 + np.exp(-hidden))) @ w_2.T + b_2, tolerance=5e-6)


def test_gated_feed_forward():
    r"""GELU with the normal distribution itself, not an approximation of it.

    $$\mathrm{FFN}(x) = W_\mathrm{out}\,\bigl(a \odot \mathrm{GELU}(g)\bigr) + b_\mathrm{out},
      \qquad [a, g] = W_\mathrm{in} x + b_\mathrm{in}$$
    """
    width, x = 3, normal(1, 2, 3)
    layer = FeedForward(width).double()
    w_in, b_in, w_out, b_out = (p.detach().numpy() for p in layer.parameters())
    a, g = np.split(x @ w_in.T + b_in, 2, axis=-1)
    gelu = g * (1 + np.vectorize(math.erf)(g / np.sqrt(2))) / 2
    agree(layer(tensor(x)), (a * gelu) @ w_out.T + b_out)


def test_contrastive_loss():
    r"""Five pictures and their texts.

    $$L = -\frac{1}{2b} \sum_i \left[ \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_i \cdot v_j}}
                                   + \log \frac{e^{s\,u_i \cdot v_i}}{\sum_j e^{s\,u_j \cdot v_i}} \right]$$
    """
    b, s = 5, 10.0
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (normal(b, 3), normal(b, 3, seed=1)))
    total = 0.0
    for i in range(b):
        pair = np.exp(s * u[i] @ v[i])
        total += np.log(pair / sum(np.exp(s * u[i] @ v[j]) for j in range(b)))
        total += np.log(pair / sum(np.exp(s * u[j] @ v[i]) for j in range(b)))
    agree(contrastive_loss(tensor(u), tensor(v), tensor(np.log(s))), -total / (2 * b))


def test_weighted_words():
    r"""Two prompts: the mean is each one's own.

    $$z'_{ij} = w_i z_{ij}\, \frac{\mathrm{mean}(z)}{\mathrm{mean}(w z)}$$
    """
    z, w = normal(2, 4, 3) + 0.5, np.array([[1.0, 1.3, 1.0, 0.5], [1.0, 2.0, 1.0, 1.0]])
    weighted = weighted_states(tensor(z), tensor(w))
    for row in range(2):
        wz = np.array([[w[row, i] * z[row, i, j] for j in range(3)] for i in range(4)])
        agree(weighted[row], wz * np.mean(z[row]) / np.mean(wz))


def test_reparametrisation():
    r"""A sample of the encoder's Gaussian.

    $$z = \mu + \sigma \epsilon, \qquad \sigma = e^{\frac12 \log \sigma^2}, \quad \epsilon \sim \mathcal N(0, 1)$$
    """
    mu, eps, sigma = normal(1, 2, 3, 3), normal(1, 2, 3, 3, seed=1), np.abs(normal(1, 2, 3, 3, seed=2))
    agree(reparametrise(tensor(mu), tensor(np.log(sigma**2)), tensor(eps)), mu + sigma * eps)


def test_kl_divergence():
    r"""By the equation, and by its definition: the mean of $\log q/p$ under q, at the points of Gauss and Hermite.

    $$D_\mathrm{KL}\bigl(\mathcal N(\mu, \sigma^2) \,\|\, \mathcal N(0, 1)\bigr)
      = \tfrac12 \sum \left(\mu^2 + \sigma^2 - 1 - \log \sigma^2\right)$$

    $$D_\mathrm{KL} = \tfrac12 \sum \left(\mu^2 + \sigma^2 - 1 - \log \sigma^2\right)$$
    """
    mu, sigma = normal(1, 2, 3, 3), np.abs(normal(1, 2, 3, 3, seed=1)) + 0.1
    kl = kl_divergence(tensor(mu), tensor(np.log(sigma**2)))
    agree(kl, [np.sum(mu**2 + sigma**2 - 1 - np.log(sigma**2)) / 2])

    points, weights = np.polynomial.hermite_e.hermegauss(4)
    z = mu[..., None] + sigma[..., None] * points
    log_ratio = -(points**2) / 2 - np.log(sigma[..., None]) + z**2 / 2
    agree(kl, [np.sum(log_ratio * weights) / np.sqrt(2 * np.pi)])


def test_blend_weights():
    r"""Three tiles of six positions over fourteen; the first two overlap by three, one more than `overlap`.

    $$w_k(x) = \frac{r(x - x_k)}{\sum_j r(x - x_j)}, \qquad r(i) = \min(i + 1,\; n - i,\; \mathrm{overlap})$$
    """
    starts, length, n, overlap = [0, 3, 8], 14, 6, 2

    def r(i: int) -> int:
        return min(i + 1, n - i, overlap) if 0 <= i < n else 0

    for start, weights in zip(starts, blend_weights(starts, length, n, overlap), strict=True):
        here = range(start, start + n)
        agree(weights, [r(x - start) / sum(r(x - other) for other in starts) for x in here])
    assert torch.equal(blend_weights([0], 3, 4, 0)[0], torch.ones(3, dtype=torch.float64))


@torch.no_grad()
def test_fixed_statistics():
    r"""Three groups of two channels, with the statistics of another image.

    $$y = \frac{x - \mu_\mathrm{measured}}{\sqrt{\sigma^2_\mathrm{measured} + \varepsilon}}\, w + b$$
    """
    norm = nn.GroupNorm(3, 6, eps=0.01, dtype=torch.float64)
    w, b, measured, x = normal(6), normal(6, seed=1), normal(1, 6, 4, 5, seed=2), normal(1, 6, 3, 3, seed=3)
    with torch.no_grad():
        norm.weight.copy_(tensor(w)), norm.bias.copy_(tensor(b))
    with fixed_statistics(norm, lambda: norm(tensor(measured))):
        got = norm(tensor(x))
    expected = np.empty_like(x)
    for c in range(6):
        group = measured[0, 2 * (c // 2) : 2 * (c // 2) + 2]
        expected[0, c] = (x[0, c] - group.mean()) / np.sqrt(group.var() + 0.01) * w[c] + b[c]
    agree(got, expected)


def test_guidance_embedding():
    r"""In float32, as that of the timestep; with the factor 1000, so that w here is small.

    $$\mathrm{emb}(w)_i = \sin(1000\,w f_i), \quad \mathrm{emb}(w)_{n+i} = \cos(1000\,w f_i), \quad
      f_i = 10000^{-i/(n-1)}$$
    """
    n = 5
    w, f = np.array([0.0, 0.001, 0.02]), np.array([10000.0 ** (-i / (n - 1)) for i in range(n)])
    expected = [[math.sin(1000 * g * s) for s in f] + [math.cos(1000 * g * s) for s in f] for g in w]
    agree(guidance_embedding(tensor(w), 2 * n), expected, tolerance=5e-6)


@torch.no_grad()
def test_tiny_block():
    r"""Of 64 channels, with kernels that are zero but in their middle: there a convolution is a matrix.

    $$y = \mathrm{ReLU}\bigl(x + c_3(\mathrm{ReLU}(c_2(\mathrm{ReLU}(c_1(x)))))\bigr)$$
    """
    block, x, h = TinyBlock().double(), normal(64), normal(64)
    for i, conv in enumerate((block.conv_1, block.conv_2, block.conv_3)):
        matrix, bias = normal(64, 64, seed=i + 1) / 8, normal(64, seed=i + 5)
        conv.weight.zero_()
        conv.weight[:, :, 1, 1], conv.bias[:] = tensor(matrix), tensor(bias)
        h = matrix @ (x if i == 0 else np.maximum(h, 0)) + bias
    agree(block(tensor(x)[None, :, None, None])[0, :, 0, 0], np.maximum(x + h, 0))


def test_winograd():
    r"""The four products are those of the code's transforms, and what they give is the convolution.

    $$m_1 = (d_0 - d_2)\, g_0, \quad m_2 = (d_1 + d_2)\, \tfrac{g_0 + g_1 + g_2}{2}, \quad
      m_3 = (d_2 - d_1)\, \tfrac{g_0 - g_1 + g_2}{2}, \quad m_4 = (d_1 - d_3)\, g_2$$

    $$y_0 = m_1 + m_2 + m_3, \qquad y_1 = m_2 - m_3 - m_4$$
    """
    d, g = normal(4), normal(3, seed=1)
    m_1, m_4 = (d[0] - d[2]) * g[0], (d[1] - d[3]) * g[2]
    m_2, m_3 = (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2, (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2
    y = [m_1 + m_2 + m_3, m_2 - m_3 - m_4]
    products = (tensor(TWO.input) @ tensor(d)) * (tensor(TWO.kernel) @ tensor(g))
    agree(products, [m_1, m_2, m_3, m_4])
    agree(tensor(TWO.output) @ products, y)
    agree(np.correlate(d, g, "valid"), y)


def test_winograd_with_larger_blocks():
    r"""The factors are values of the kernel's polynomial, up to a scale: at 0, four points, and infinity.

    $$g(t) = g_0 + g_1 t + g_2 t^2, \qquad t = 0,\; \sqrt 2,\; -\sqrt 2,\; \sqrt{1/2},\; -\sqrt{1/2}$$

    The outputs weigh each product with the powers of its point.
    """
    d, g = normal(6), normal(3, seed=1)
    points = [0, np.sqrt(2), -np.sqrt(2), np.sqrt(1 / 2), -np.sqrt(1 / 2)]
    scales = [1, 1 / 6, 1 / 6, -2 / 3, -2 / 3]
    values = [scale * np.polyval(g[::-1], t) for scale, t in zip(scales, points, strict=True)]
    agree(tensor(FOUR.kernel) @ tensor(g), [*values, g[2]])
    agree(FOUR.output, [[t**i for t in points] + [float(i == 3)] for i in range(4)])
    products = (tensor(FOUR.input) @ tensor(d)) * (tensor(FOUR.kernel) @ tensor(g))
    agree(tensor(FOUR.output) @ products, np.correlate(d, g, "valid"))


def test_integers():
    r"""An input as whole numbers: a worked example, and no value further from its own than half a step.

    $$x \approx s\,(q - z), \qquad s = \frac{\max x - \min x}{254}, \qquad z = \lceil -\min x / s \rceil, \qquad
      q = \mathrm{round}(x / s) + z$$
    """
    x = normal(20, 30)
    s = (x.max() - x.min()) / 254
    z = np.ceil(-x.min() / s)
    found = quantize(tensor(x))
    assert found is not None and found.zero == z
    assert (
        abs(found.numbers.numpy() - (np.round(x / s) + z)).max() <= 1
    )  # s is rounded to float32 in the code
    assert abs(found.value().numpy() - x).max() < 0.502 * s


def test_integer_product():
    r"""Both sides of the rescaling, of which the code computes the right one in whole numbers.

    $$y_o = \sum_c w_{oc}\, x_c + b_o \;\approx\; s\, t_o \sum_c p_{oc}\, (q_c - z) + b_o$$
    """
    x, w, b = normal(300), normal(5, 300, seed=1), normal(5, seed=2)
    inputs, weight = quantize(tensor(x)[None]), quantize_weight(tensor(w))
    assert inputs is not None and isinstance(weight.step, torch.Tensor)
    q, p, t = inputs.numbers[0].long().numpy(), weight.numbers.long().numpy(), weight.step[:, 0].numpy()
    y = inputs.step * t * (p @ (q - inputs.zero)) + b
    agree(weight.value().double() @ inputs.value()[0].double() + tensor(b), y, 1e-5)
    assert abs(y - (w @ x + b)).max() < 0.05 * abs(w @ x + b).max()


def test_bent_latent():
    r"""
    $$z' = 3 \tanh\frac{z}{3}$$
    """
    z = 4 * normal(1, 4, 3, 5)
    agree(TinyDecoder().middle(tensor(z)), 3 * np.tanh(z / 3))
