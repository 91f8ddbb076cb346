r"""A mistake made in the running program, and taken back: for tests that need its effect, not its traces in a file."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest import mock

from ldm.lab.museum.mistake import Mistake
from tests.swapping import executed, swapped


def where(source: str, passage: str) -> tuple[str, ast.stmt]:
    r"""The qualified name of the function, or the statement at the top of the file, that a passage stands in."""
    line = source[: source.index(passage)].count("\n") + 1
    for top in ast.parse(source).body:
        for node in top.body if isinstance(top, ast.ClassDef) else [top]:
            if node.lineno <= line <= (node.end_lineno or node.lineno):
                prefix = f"{top.name}." if isinstance(top, ast.ClassDef) else ""
                return prefix + getattr(node, "name", ""), node
    raise LookupError(f"{passage!r} stands in no function and no statement")


@contextmanager
def made(mistake: Mistake) -> Iterator[None]:
    r"""While it lasts, the function has the code, or the constant the value, that the mistake gives it.

    Raises `LookupError` for a passage that is in neither.
    """
    module = import_module("ldm." + mistake.file.removesuffix(".py").replace("/", "."))
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    patched = source.replace(mistake.before, mistake.after)
    name, node = where(source, mistake.before)
    if isinstance(node, ast.FunctionDef):
        with swapped(module.__name__, name, patched):
            yield
        return
    targets = node.targets if isinstance(node, ast.Assign) else []
    constants = [target.id for target in targets if isinstance(target, ast.Name)]
    values = executed(patched, module)
    with mock.patch.multiple(module, **{constant: values[constant] for constant in constants}):
        yield
