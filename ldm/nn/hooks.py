r"""Forward hooks on a network that other threads may be running at the same time.

A hook is called in whichever thread runs the module. One that is added here answers to its own thread alone.
"""

import threading
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

# torch numbers hooks with a counter that is not safe beside other threads: two hooks of one number replace each other.
_adding = threading.Lock()


def add_hook(module: nn.Module, hook: Callable[..., Any], before: bool = False) -> RemovableHandle:
    """Add a forward hook to a module (`before`: a pre-hook) that does nothing in other threads than this one."""
    here = threading.get_ident()

    def hook_here(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == here else None

    with _adding:
        return (module.register_forward_pre_hook if before else module.register_forward_hook)(hook_here)
