r"""A function of the running program with other code, for a while: nothing is written, and nothing imported anew.

The function keeps its identity and the checks that the test run has wrapped around it; only what it does changes. So it
does not matter who has imported it already.
"""

import importlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import CellType, FunctionType, ModuleType
from typing import Any
from unittest import mock


def raw(place: ModuleType | dict[str, Any], name: str) -> FunctionType:
    r"""A function or method by its qualified name, without what is wrapped around it."""
    first, _, last = name.partition(".")
    found = place[first] if isinstance(place, dict) else getattr(place, first)
    return inspect.unwrap(getattr(found, last) if last else found)


def executed(source: str, module: ModuleType, file: str | None = None) -> dict[str, Any]:
    r"""What another version of a module's source defines; it may use all that the module has.

    A traceback shows the lines of `file`, by default the module's own.
    """
    names = dict(vars(module))
    exec(compile(source, file or str(module.__file__), "exec"), names)
    return names


@contextmanager
def swapped(
    module: str, function: str, source: str, also: Sequence[str] = (), file: str | None = None
) -> Iterator[None]:
    r"""While it lasts, a function of `module` is what `source`, another version of the module, makes of it.

    `also` names what else the module shall have from there: helpers, constants. `file`: where the source comes from.
    """
    live = importlib.import_module(module)
    names = executed(source, live, file)
    before, missing = raw(live, function), object()
    kept = {name: getattr(live, name, missing) for name in also}
    old = before.__code__, before.__defaults__, before.__kwdefaults__
    new = raw(names, function)
    owner, _, method = function.rpartition(".")
    try:
        for name in also:
            setattr(live, name, names[name])
        if new.__code__.co_freevars == before.__code__.co_freevars:
            before.__code__, before.__defaults__, before.__kwdefaults__ = (
                new.__code__,
                new.__defaults__,
                new.__kwdefaults__,
            )
            yield
        else:  # a method that says `super()`, where the other one does not: its code does not fit into the old one
            class_ = getattr(live, owner)
            closure = tuple(
                CellType(class_) for _ in new.__code__.co_freevars
            )  # `super()` looks for its class there
            fitting = FunctionType(new.__code__, vars(live), method, new.__defaults__, closure)
            fitting.__kwdefaults__ = new.__kwdefaults__
            with mock.patch.object(class_, method, fitting):
                yield
    finally:
        before.__code__, before.__defaults__, before.__kwdefaults__ = old
        for name, value in kept.items():
            if value is missing:
                delattr(live, name)
            else:
                setattr(live, name, value)
