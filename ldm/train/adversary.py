r"""A patch discriminator: a network that learns to tell reconstructions from real images.

The other losses tolerate blurred edges, and blurred edges are what gives a reconstruction away. So the VAE is also
trained to fool a discriminator, which learns to look for exactly that. The discriminator classifies each patch of an
image separately, because texture and edges are local.

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
    """Maps images to one logit for each patch: positive for real images, negative for reconstructions."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for a, b in zip(channels, channels[1:]):
            # Group norm, not batch norm: an image's logits should not depend on the rest of the batch.
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(8, b), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        return self.layers(pixels)


def discriminator_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    r"""The hinge loss of the discriminator's logits for real images $x$ and reconstructions $\tilde x$:

    $$L_D = \tfrac12\, \mathbb E[\max(0, 1 - D(x))] + \tfrac12\, \mathbb E[\max(0, 1 + D(\tilde x))]$$

    Logits beyond 1 and -1 have no gradient. Logits of zero give a loss of 1 (Lim & Ye 2017, eq. 7).
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def frozen_logits(discriminator: Discriminator, fake: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h2 w2"]:
    """The discriminator's logits, with gradients for the images but not for the discriminator.

    Otherwise the VAE's loss would also make the discriminator worse.
    """
    frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
    return functional_call(discriminator, frozen, fake)


def adaptive_weight(
    rec_loss: Float[Tensor, ""], adv_loss: Float[Tensor, ""], last_layer: Tensor
) -> Float[Tensor, ""]:
    r"""The weight at which the adversarial loss and the others have equal gradient norms at the decoder's last layer:

    $$\lambda = \frac{\lVert \nabla_\mathrm{last} L_\mathrm{rec} \rVert}
                     {\lVert \nabla_\mathrm{last} L_\mathrm{adv} \rVert + 10^{-4}}$$

    It is at most $10^4$ and has no gradient itself. Source: Esser et al. 2021, eq. 7 (the paper has 1e-6; their code
    uses 1e-4 and the same bound).
    """
    (a,) = torch.autograd.grad(rec_loss, last_layer, retain_graph=True)
    (b,) = torch.autograd.grad(adv_loss, last_layer, retain_graph=True)
    a, b = all_reduce_mean(a), all_reduce_mean(b)  # the gradients of the whole batch, over all processes
    return (a.norm() / (b.norm() + 1e-4)).clamp(0, 1e4).detach()
