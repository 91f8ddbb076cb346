r"""What adapters do to a model: LoRA, DoRA, LoHa, LoKr, several at once; a learned word; what a ControlNet adds."""

import numpy as np
import torch

from ldm.adapters.control import residual_scales
from ldm.adapters.controlnet import ControlNet
from ldm.adapters.dora import dora
from ldm.adapters.lora import low_rank
from ldm.adapters.lycoris import loha, lokr
from ldm.adapters.merge import Change, merged
from ldm.adapters.textual_inversion import with_rows
from ldm.config import TextConfig, UNetConfig, UNetLevel
from ldm.text.encoder import TextEncoder
from ldm.unet.unet import UNet
from tests.equations.numbers import agree, normal, tensor


def test_lora():
    r"""A weight that is not square, with a rank and an alpha that differ.

    $$W' = W + s\,\frac{\alpha}{r}\,B A$$
    """
    w, b, a = normal(5, 7), normal(5, 3, seed=1), normal(3, 7, seed=2)
    s, alpha, r = 0.8, 2.0, 3
    change = Change("LoRA", {"up": tensor(b), "down": tensor(a)}, alpha)
    agree(merged(tensor(w), [(change, s)]), w + s * alpha / r * b @ a)
    agree(low_rank(tensor(b), tensor(a)), b @ a)


def test_dora():
    r"""One length for each output.

    $$W' = m\,\frac{W + \Delta W}{\lVert W + \Delta W \rVert}$$
    """
    w, delta, m = normal(5, 7), normal(5, 7, seed=1), normal(5, seed=2)
    rows = [m[i] * (w[i] + delta[i]) / np.sqrt(((w[i] + delta[i]) ** 2).sum()) for i in range(5)]
    agree(dora(tensor(w), tensor(delta), tensor(m)), rows)


def test_loha():
    r"""The element-wise product of two products.

    $$\Delta W = (B_1 A_1) \odot (B_2 A_2)$$
    """
    b1, a1, b2, a2 = normal(5, 2), normal(2, 7, seed=1), normal(5, 2, seed=2), normal(2, 7, seed=3)
    factors = {"hada_w1_a": b1, "hada_w1_b": a1, "hada_w2_a": b2, "hada_w2_b": a2}
    agree(loha({name: tensor(x) for name, x in factors.items()}), (b1 @ a1) * (b2 @ a2))


def test_lokr():
    r"""The Kronecker product, with the second matrix whole or a product itself.

    $$\Delta W = C \otimes D, \qquad D = B A \text{ or whole}$$
    """
    c, b, a = normal(2, 3), normal(5, 2, seed=1), normal(2, 4, seed=2)
    expected = np.block([[c[i, j] * (b @ a) for j in range(3)] for i in range(2)])
    shape = (10, 12)
    agree(lokr({"lokr_w1": tensor(c), "lokr_w2_a": tensor(b), "lokr_w2_b": tensor(a)}, shape), expected)
    agree(lokr({"lokr_w1": tensor(c), "lokr_w2": tensor(b @ a)}, shape), expected)


def test_several_adapters():
    r"""A LoRA and a DoRA, each computed from the model's own weight.

    $$W' = W + \sum_i s_i \left(f_i(W) - W\right)$$
    """
    w, b, a, m = normal(5, 7), normal(5, 2, seed=1), normal(2, 7, seed=2), normal(5, seed=3)
    factors = {"up": tensor(b), "down": tensor(a)}
    plain, with_lengths = Change("LoRA", factors), Change("LoRA", factors, magnitude=tensor(m))
    both = w + b @ a
    turned = m[:, None] * both / np.linalg.norm(both, axis=1, keepdims=True)
    expected = w + 0.3 * (both - w) - 0.7 * (turned - w)
    agree(merged(tensor(w), [(plain, 0.3), (with_lengths, -0.7)]), expected)


def test_controlnet():
    r"""In the middle of a U-Net of one level, with no weight of the connections at zero.

    $$y = F(x; \Theta) + Z\bigl(F(x + Z(c; \Theta_{z1}); \Theta_c); \Theta_{z2}\bigr)$$

    Here x is what the first convolution, which both share, makes of the latent, and c what the hint's encoder makes.
    """
    config = UNetConfig((UNetLevel(8, 2, 1),), 6, res_per_level=1, groups=4)
    unet, network = UNet(config).double(), ControlNet(config, (4, 5)).double()
    network.conv_in = unet.conv_in
    for i, parameter in enumerate([*network.zero_mid.parameters(), *network.hint.conv_out.parameters()]):
        parameter.data = tensor(normal(*parameter.shape, seed=i))
    x_t, t, context = tensor(normal(1, 4, 3, 5)), torch.tensor(7), tensor(normal(1, 2, 6, seed=1))
    seen = {}
    network.hint.conv_out.register_forward_pre_hook(lambda _, args: seen.update(c=args[0]))
    unet.conv_in.register_forward_hook(lambda _, args, out: seen.update(x=out))
    unet.up[0].register_forward_pre_hook(lambda _, args: seen.update(y=args[0]))
    out = network(x_t, t, context, network.hint(tensor(normal(1, 3, 6, 10, seed=2))))
    unet(x_t, t, context, out)

    def f(x, half):  # the rest of a first half, with its own weights
        time_emb = half.time_embedding(t.expand(1))
        return half.mid(half.down[0](tensor(x), time_emb, context)[0], time_emb, context).detach().numpy()

    def z(c, conv):  # in numpy: every place of the kernel is a matrix
        weight, bias = (p.detach().numpy() for p in conv.parameters())
        size, (height, width) = weight.shape[2], c.shape[2:]
        padded = np.pad(c, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2))
        total = bias[None, :, None, None] + np.zeros((1, len(weight), height, width))
        for i in range(size):
            for j in range(size):
                total += np.einsum(
                    "oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width]
                )
        return total

    x, c = (seen[name].detach().numpy() for name in "xc")
    agree(seen["y"], f(x, unet) + z(f(x + z(c, network.hint.conv_out), network), network.zero_mid), 1e-11)


def test_guess_mode():
    r"""The finest residual is i = 0; of thirteen.

    $$w_i = s \cdot 10^{-\frac{n - 1 - i}{n - 1}}, \qquad i = 0, \ldots, n - 1$$
    """
    n, s = 13, 0.7
    agree(residual_scales(n, s, guess=True), [s * 10 ** (-(n - 1 - i) / (n - 1)) for i in range(n)])
    agree(residual_scales(n, 1.0, guess=True), np.logspace(-1, 0, n))


def test_a_learned_word():
    r"""A table of five rows with two more, a prompt of four tokens, and the positions.

    $$x_i = P_i + \begin{cases} E_{k_i} & k_i < V \\ v_{k_i - V} & k_i \ge V \end{cases}$$
    """
    e, v, p, k = normal(5, 4), normal(2, 4, seed=1), normal(6, 4, seed=2), [0, 5, 6, 4]
    encoder = TextEncoder(TextConfig(5, 6, width=4, layers=1, heads=1, activation="gelu"))
    encoder.token_embedding.weight.data = tensor(e)
    encoder.position_embedding.weight.data = tensor(p)
    encoder.token_embedding = with_rows(encoder.token_embedding, [tensor(v)])
    expected = [p[i] + (e[k[i]] if k[i] < 5 else v[k[i] - 5]) for i in range(4)]
    agree(encoder.embed(torch.tensor([k]))[0].detach(), expected)
