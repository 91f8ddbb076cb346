"""Whether a call has to leave a graph for its gradients: if it has, the plain layer computes it."""

import torch
from torch import Tensor


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether autograd would follow an operation on these tensors.

    That gradients are enabled is not enough: a frozen model then has the same results inside `torch.no_grad` and
    outside.
    """
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
