r"""Arguments of the wrong type, reported before anything is computed.

A `@checked` function compares its arguments with its annotations: `size=128` where the signature says
`tuple[int, int] | None` raises an `LdmError` that says so, not an `AttributeError` from deep inside. Which *values*
make sense is up to the function itself.

Numbers from numpy and torch count as numbers; True and False do not.
"""

import inspect
import os
import types
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from PIL import Image

from ldm.errors import LdmError

P = ParamSpec("P")
R = TypeVar("R")

# The names of simple annotations in errors.
NAMES: dict[object, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    Image.Image: "a PIL image (`ldm.images.reading.read_picture` opens a file)",
    torch.dtype: "a dtype",
    torch.device: "a device",
    types.NoneType: "None",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Make `function` raise `LdmError` for arguments that do not fit its annotations."""
    signature = inspect.signature(function)

    @cache  # at the first call, when all modules that annotations name have been imported
    def hints() -> dict[str, object]:
        return get_type_hints(function)

    @wraps(function)
    def check_and_call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            hint = hints().get(name, Any)
            if not fits(value, hint):
                raise LdmError(f"{name} is {with_type(value)}; expected {described(hint)}")
        return function(*args, **kwargs)

    return check_and_call


def fits(value: object, hint: object) -> bool:
    """Whether a value fits an annotation. True for annotations that are not types, such as `Any`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin is Sequence:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return False
        return all(fits(one, inner[0]) for one in value)
    if origin is Callable:
        return callable(value)
    if origin is Literal:
        return value in inner
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is int:
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return is_number(value) and hasattr(value, "__index__") and not is_float
    if hint is float:
        return is_number(value)
    if hint is Path:
        return isinstance(value, os.PathLike)
    kind = origin or hint
    return hint is Any or not isinstance(kind, type) or isinstance(value, kind)


def is_number(value: object) -> bool:
    """Whether a value is a real number, from Python or numpy, or a tensor that holds one."""
    if isinstance(value, torch.Tensor):
        return value.ndim == 0 and value.dtype not in (torch.bool, torch.complex64, torch.complex128)
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def described(hint: object) -> str:
    """An annotation in words: "a pair of whole numbers, or None"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return ", or ".join(dict.fromkeys(map(described, inner)))
    if origin is tuple:
        return f"({', '.join(map(described, inner))})"
    if origin is Sequence:
        return f"a list, each {described(inner[0])}"
    if origin is Callable:
        return "a function"
    if origin is Literal:
        return " or ".join(map(repr, inner))
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def with_type(value: object) -> str:
    """A value and its type as an error names them; the type alone if the text would be long or say nothing."""
    text = repr(value)
    if isinstance(value, Image.Image) or len(text) > 60 or "\n" in text:
        return f"of type {type(value).__name__}"
    return f"{text} (of type {type(value).__name__})" if value is not None else text
