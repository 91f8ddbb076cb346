r"""Forward hooks on a network that other threads may be running at the same time.

torch calls a hook in whichever thread runs the module. A hook added here runs only in the thread that added it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

# torch numbers hooks with a counter that is not thread-safe: two threads may get the same number, and then one hook
# replaces the other.
_adding = threading.Lock()


def add_hook(module: nn.Module, hook: Callable[..., Any], before: bool = False) -> RemovableHandle:
    """Add a forward hook (`before`: a forward pre-hook) to a module; in any other thread, the hook does nothing."""
    here = threading.get_ident()

    def hook_here(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == here else None

    with _adding:
        return (module.register_forward_pre_hook if before else module.register_forward_hook)(hook_here)


@contextmanager
def hooks(added: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Add these forward hooks, each to its module, until the `with` block ends."""
    with ExitStack() as undo:
        for module, hook in added:
            undo.callback(add_hook(module, hook).remove)
        yield
