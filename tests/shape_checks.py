r"""The shapes in our signatures become checks, and a call like one that was found right is not checked again.

A check takes ten times as long as a small layer. What it says depends on nothing but the tensors' shapes and dtypes,
the numbers and words beside them, and the types of the rest: so those are remembered, for each function.
"""

import functools
import inspect
import re
from collections.abc import Callable, Hashable
from dataclasses import is_dataclass
from pathlib import Path
from types import FunctionType

import jaxtyping
import numpy as np
import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[1]
LONG = 100  # words and lists beyond this are not remembered whole
check_each_call = jaxtyping.jaxtyped


def modules_with_shapes() -> list[str]:
    r"""The modules of `ldm` that have shapes in their signatures."""
    return [
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
        for file in sorted((REPOSITORY / "ldm").rglob("*.py"))
        if re.search("from jaxtyping import|import Latent", file.read_text(encoding="utf-8"))
    ]


def install() -> None:
    r"""To be called before anything imports these modules.

    In the others there is nothing to check that mypy does not know, and each call would take longer for nothing.
    """
    jaxtyping.jaxtyped = check_once  # the name that the hook writes above each definition
    jaxtyping.install_import_hook(modules_with_shapes(), "beartype.beartype")


def kind(value: object) -> Hashable:
    r"""What a check can see of a value. Raises TypeError for one that only stands for a tensor, as in a graph."""
    if type(value) in (Tensor, nn.Parameter):
        return value.shape, value.dtype
    if isinstance(value, Tensor):
        raise TypeError(f"{type(value)} is like no other")
    if value is None or isinstance(value, (bool, int)):
        return type(value), value
    if isinstance(value, str):
        return str, value[:LONG]
    if isinstance(value, (tuple, list)):
        return type(value), len(value), *map(kind, value[:LONG])
    if isinstance(value, dict):
        return type(value), len(value), *((key, kind(inner)) for key, inner in list(value.items())[:LONG])
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype
    return type(value)


def check_once(definition: type | FunctionType | None = None, *, typechecker: Callable) -> Callable:
    r"""What `jaxtyping.jaxtyped` does to a class or function, except where a call is like one that was right."""
    if definition is None:
        return functools.partial(check_once, typechecker=typechecker)
    if inspect.isclass(definition):
        if is_dataclass(definition):
            definition.__init__ = check_once(definition.__init__, typechecker=typechecker)
        return definition
    right: dict[Hashable, set[Hashable]] = {}  # by the kinds of the arguments: those of the results

    @functools.cache  # so that one is made only where there are calls
    def checked() -> Callable:
        return check_each_call(definition, typechecker=typechecker)

    def check_result(out: object, args: tuple, kwargs: dict) -> None:
        def returns_it(*args, **kwargs):
            return out

        same_names = FunctionType(returns_it.__code__, definition.__globals__, closure=returns_it.__closure__)
        check_each_call(functools.wraps(definition)(same_names), typechecker=typechecker)(*args, **kwargs)

    @functools.wraps(definition)
    def call(*args, **kwargs):
        __tracebackhide__ = True
        if torch.compiler.is_compiling():
            return checked()(*args, **kwargs)
        try:
            given = kind(args), kind(kwargs) if kwargs else None
            known = right.get(given)
        except TypeError:
            return checked()(*args, **kwargs)
        out = checked()(*args, **kwargs) if known is None else definition(*args, **kwargs)
        found = kind(out)
        if known is None:
            right[given] = {found}
        elif found not in known:
            check_result(out, args, kwargs)
            known.add(found)
        return out

    return call
