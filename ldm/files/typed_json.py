r"""JSON to dataclasses, with every value checked against its field's annotation.

Files may come from strangers, so a value of another type, or one outside its limits, is an error that names the field:
"config.unet.levels[0].heads is None; expected int".
"""

import math
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from ldm.errors import LdmError, shown


class Between(NamedTuple):
    """The limits of a number, or of the length of a list or text: `Annotated[int, Between(1, 8)]`."""

    least: float
    most: float


def from_json_value(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into an annotated type: a dataclass, a tuple, an optional or a plain value.

    Raises `LdmError`, with `where`, for a value that does not fit its annotation.
    """
    built = _convert(kind, value, where)
    check(kind, built, where)
    return built


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Objects become dataclasses, lists tuples, and integers floats where those are expected."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise LdmError(f"{where} is {shown(value)}; expected a list")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if arguments and origin is not Literal and value is not None:  # Annotated, or X | None
        return _convert(arguments[0], value, where)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return float(value) if kind is float and _is_number(value) else value
    if not isinstance(value, dict):
        raise LdmError(f"{where} is {shown(value)}; expected an object with the fields of {kind.__name__}")
    hints = _hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise LdmError(
            f"{where} has unknown fields {shown(unknown)}; expected some of {shown(sorted(hints))}"
        )
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in value]
    if missing:
        raise LdmError(f"{where} lacks the fields {missing}; restore the original file")
    return kind(**{name: _convert(hints[name], item, f"{where}.{name}") for name, item in value.items()})


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1000)  # floats go no further


def check(kind: Any, value: Any, where: str) -> None:
    """Raise `LdmError` unless a value has the annotated type and lies within its limits."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        check(arguments[0], value, where)
        least, most = arguments[1]
        size = value if isinstance(value, int | float) else len(value)
        if not least <= size <= most:  # NaN is never between
            what = "" if size is value else "of length "
            raise LdmError(f"{where} is {shown(value)}; expected {what}{least:,} to {most:,}")
        if isinstance(value, str) and not value.isprintable():
            raise LdmError(f"{where} is {shown(value)}; expected printable text")
    elif origin is Literal:
        if value not in arguments:
            raise LdmError(f"{where} is {shown(value)}; expected one of {list(arguments)}")
    elif origin is tuple:
        if not isinstance(value, tuple):
            raise LdmError(f"{where} is {shown(value)}; expected a tuple")
        for i, item in enumerate(value):
            check(arguments[0], item, f"{where}[{i}]")
    elif arguments:  # X | None
        if value is not None:
            check(arguments[0], value, where)
    else:
        fits = _is_number(value) if kind is float else isinstance(value, kind)
        if not fits or (kind is int and isinstance(value, bool)):
            raise LdmError(f"{where} is {shown(value)}; expected {kind.__name__}")
        if kind is float and math.isnan(value):  # which Python's json reads, though JSON has no such number
            raise LdmError(f"{where} is NaN; expected a number")
        if isinstance(kind, type) and is_dataclass(kind):
            for name, hint in _hints(kind).items():
                check(hint, getattr(value, name), f"{where}.{name}")
