r"""Frechet distance: how similar are two distributions of images?

Each image becomes a feature vector and each set of images a Gaussian (mean and covariance); the distance between two
Gaussians has a closed form. FID (Heusel et al. 2017) uses the features of a network trained on ImageNet. Ours are the
class token's state in our own CLIP, before the projection into the space shared with text, so our numbers compare only
with one another.

How it can mislead you: it depends on the number of images (small sets look far apart: always state the number, and
compare with the distance between two sets of drawings of that size); it sees only what the features see; and a model
that copies its training images has a perfect distance.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.errors import LdmError


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""The squared distance between two Gaussians with the means and covariances of the rows of a and b, in float64:

    $$d^2 = \lVert \mu_a - \mu_b \rVert^2 + \mathrm{tr}\,[\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2}]$$

    The product is not symmetric, but it has the same eigenvalues as $\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2}$, which is;
    the trace of its square root is the sum of their square roots. Needs at least two rows each. Source: Dowson & Landau
    1982, eq. 4; as "FID" between images: Heusel et al. 2017, eq. 6.
    """
    if min(len(a), len(b)) < 2:
        raise LdmError(f"{len(a)} and {len(b)} feature vectors; a covariance needs at least 2 of each")
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(a.shape[1], -1)
    root_a = _root(cov_a)
    eigenvalues = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0)  # rounding may give -1e-17
    gap = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (gap + cov_a.trace() + cov_b.trace() - 2 * eigenvalues.sqrt().sum()).item()


def _root(symmetric: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    r"""The symmetric square root: the same eigenvectors, square roots of the eigenvalues."""
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
