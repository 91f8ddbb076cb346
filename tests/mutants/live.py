r"""A mistake made in the running program, and taken back: for tests that need its effect, not its traces in a file."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType

from tests.mutants.mistakes import Mistake


def owner(source: str, passage: str) -> tuple[str, ast.stmt]:
    r"""The qualified name of the function, or the statement at the top of the file, that a passage stands in."""
    line = source[: source.index(passage)].count("\n") + 1
    line += len(passage) - len(passage.lstrip("\n"))
    for top in ast.parse(source).body:
        for node in top.body if isinstance(top, ast.ClassDef) else [top]:
            if node.lineno <= line <= (node.end_lineno or node.lineno):
                prefix = f"{top.name}." if isinstance(top, ast.ClassDef) else ""
                return prefix + getattr(node, "name", ""), node
    raise LookupError(f"{passage!r} stands in no function and no statement")


def raw(module: ModuleType | dict, name: str) -> FunctionType:
    r"""A function or method by its qualified name, without the checks that the test run wraps around it."""
    first, _, last = name.partition(".")
    found = module[first] if isinstance(module, dict) else getattr(module, first)
    found = getattr(found, last) if last else found
    return inspect.unwrap(found)


@contextmanager
def made(mistake: Mistake) -> Iterator[None]:
    r"""While it lasts, the function has the code, or the constant the value, that the mistake gives it.

    A function keeps its identity, so it does not matter who has imported it. Raises `LookupError` for a passage that is
    neither in a function nor in a constant.
    """
    name = "ldm." + mistake.file.removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    source = Path(module.__file__ or "").read_text(encoding="utf-8")
    function, node = owner(source, mistake.before)
    patched = {"__name__": f"{name} with a mistake"}
    exec(compile(source.replace(mistake.before, mistake.after), mistake.file, "exec"), patched)
    if isinstance(node, ast.FunctionDef):
        live = raw(module, function)
        code, live.__code__ = live.__code__, raw(patched, function).__code__
        try:
            yield
        finally:
            live.__code__ = code
    else:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        before = {key: getattr(module, key) for key in names}
        for key in names:
            setattr(module, key, patched[key])
        try:
            yield
        finally:
            for key, value in before.items():
                setattr(module, key, value)
