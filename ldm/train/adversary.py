r"""A patch discriminator: a network that learns to tell reconstructions from originals, and thereby what is wrong with
them.

What the losses before it forgive, a blurred edge above all, is what gives a reconstruction away; so the VAE is also
asked to fool a judge that looks for just that. It judges every patch of a image apart: texture and edges are local.

Sources: Isola et al. 2017, section 3.2.2 (patches); Esser et al. 2021, section 3.1 (in an autoencoder, and the weight);
Lim & Ye 2017 (the hinge losses); Rombach et al. 2022, appendix G.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ldm.train.processes import all_reduce_mean


class Discriminator(nn.Module):
    """CaptionedImages to a map of verdicts, one for each patch: above zero for "an original", below for "painted"."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for a, b in zip(channels, channels[1:]):
            # Group, not batch norm: a image's verdict should not depend on its neighbours in the batch.
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(8, b), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        return self.layers(pixels)


def discriminator_loss(
    real: Float[Tensor, "b 1 h w"], painted: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    r"""The hinge loss, for originals $x$ and painted images $\tilde x$:

    $$L_D = \tfrac12\, \mathbb E[\max(0, 1 - D(x))] + \tfrac12\, \mathbb E[\max(0, 1 + D(\tilde x))]$$

    Verdicts beyond 1 and -1 are sure enough and earn nothing. Knowing nothing costs 1 (Lim & Ye 2017, eq. 7).
    """
    return (F.relu(1 - real).mean() + F.relu(1 + painted).mean()) / 2


def frozen_logits(
    discriminator: Discriminator, painted: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b 1 h2 w2"]:
    """The discriminator's frozen_logits, through which gradients reach the image but not the discriminator.

    The VAE must not make its judge's work harder by spoiling the judge.
    """
    frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
    return functional_call(discriminator, frozen, painted)


def adaptive_weight(
    reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], last: Tensor
) -> Float[Tensor, ""]:
    r"""How much the adversarial loss may count, so that it pulls as hard at the decoder's last layer as the others:

    $$\lambda = \frac{\lVert \nabla_\mathrm{last} L_\mathrm{rec} \rVert}
                     {\lVert \nabla_\mathrm{last} L_\mathrm{adv} \rVert + 10^{-4}}$$

    at most $10^4$, and a constant for the gradients. Source: Esser et al. 2021, eq. 7 (their code uses 1e-4 where the
    paper has 1e-6, and has the same bound).
    """
    (a,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (b,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    a, b = all_reduce_mean(a), all_reduce_mean(b)  # of the whole batch, if several processes share it
    return (a.norm() / (b.norm() + 1e-4)).clamp(0, 1e4).detach()
