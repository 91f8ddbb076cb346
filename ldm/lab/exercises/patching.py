r"""Cut a stub from the live source, and make code that can be tried in place of the function in it.

`ast` finds the lines of a function, and these lines are replaced, so comments and layout survive. A learner's file is
tried as it is: it is a module of its own, and a traceback shows its lines.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from ldm.errors import LdmError
from ldm.lab.exercises.exercise import Exercise, Mistake

ROOT = Path(__file__).resolve().parents[3]
Function = ast.FunctionDef
# The statements of a learner's file that are taken with the answer: helpers, constants, imports.
CARRIED = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Attempt:
    """Code that defines the function in its own way: a learner's file, or the module with a typical mistake."""

    source: str
    path: Path  # whose lines a traceback shows
    also: tuple[str, ...] = ()  # the names of the helpers that the function needs


def live_source(exercise: Exercise) -> str:
    return (ROOT / exercise.file).read_text(encoding="utf-8")


def find_function(tree: ast.Module, name: str) -> tuple[Function, ast.stmt] | None:
    """A function or method, and the top-level statement that contains it: itself or its class."""
    owner, _, last = name.rpartition(".")
    for top in tree.body:
        body = [top] if not owner else top.body if isinstance(top, ast.ClassDef) and top.name == owner else []
        for node in body:
            if isinstance(node, Function) and node.name == last:
                return node, top
    return None


def first_line(node: ast.stmt) -> int:
    """The first line of a definition, including decorators."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def live_function(exercise: Exercise) -> tuple[Function, ast.stmt]:
    """The function in the live code. Raises `LdmError` if it no longer exists."""
    found = find_function(ast.parse(live_source(exercise)), exercise.function)
    if found is None:
        raise LdmError(f"{exercise.file} has no {exercise.function}; update ldm/lab/exercises/exercises.json")
    return found


def solution(exercise: Exercise) -> tuple[int, int, str]:
    """The live code of the function: its first and last line number and its text."""
    node, _ = live_function(exercise)
    start, stop = first_line(node), node.end_lineno or node.lineno
    return start, stop, "".join(live_source(exercise).splitlines(keepends=True)[start - 1 : stop])


# --- from the live code to a stub ---------------------------------------------------------------------------


def stub(exercise: Exercise) -> str:
    """The learner's first file: instructions, imports, and the function without its body."""
    source = live_source(exercise)
    lines = source.splitlines()
    node, top = live_function(exercise)
    start, head_end = first_line(top), _head_end(node, lines)
    blank = f'{" " * (node.col_offset + 4)}raise NotImplementedError("write {exercise.function} here")'
    kept = [*lines[start - 1 : head_end], blank, *lines[(node.end_lineno or node.lineno) : top.end_lineno]]
    if node is not top:
        kept.insert(0, f"# Only `{node.name}` is taken from this class; the rest is for reading.")
    return "\n".join([*_header(exercise), *_imports(source, top, exercise), "", "", *kept]) + "\n"


def _head_end(node: Function, lines: list[str]) -> int:
    """The last line of a function's signature and docstring."""
    if ast.get_docstring(node) is not None:
        return node.body[0].end_lineno or node.body[0].lineno
    end = node.body[0].lineno - 1
    while lines[end - 1].lstrip().startswith("#"):  # a comment explains the body that is to be written
        end -= 1
    return end


def _header(exercise: Exercise) -> list[str]:
    return [
        f'r"""Exercise {exercise.name}: {exercise.task}.',
        "",
        f"Write the body of `{exercise.function}`. You may add helpers and imports to this file. Then:",
        "",
        f"    ldm exercise check {exercise.name}",
        "",
        f"It comes from {exercise.file}, which `ldm exercise solution {exercise.name}` shows.",
        '"""',
        "",
    ]


def _imports(source: str, shown: ast.stmt, exercise: Exercise) -> list[str]:
    """The imports that the function or its class needs, including names from the module itself."""
    used = {node.id for node in ast.walk(shown) if isinstance(node, ast.Name)}
    imports: list[str] = []
    own: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a for a in node.names if (a.asname or a.name).partition(".")[0] in used]
            if names:
                node.names = names
                imports.append(ast.unparse(node))
        elif node.lineno != shown.lineno:
            own += [name for name in _defined(node) if name in used]
    if own:
        imports.append(f"from {exercise.module} import {', '.join(own)}")
    return imports


def _defined(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    names = [n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


# --- what can be tried in its place ---------------------------------------------------------------------------


def unpatched(exercise: Exercise) -> Attempt:
    return Attempt(live_source(exercise), ROOT / exercise.file)


def with_mistake(exercise: Exercise, mistake: Mistake) -> Attempt:
    """The module with a typical mistake. Raises `LdmError` if a passage to change no longer exists."""
    start, stop, text = solution(exercise)
    for before, after in mistake.changes.items():
        if before not in text:
            raise LdmError(
                f"{exercise.function} no longer contains {before!r}; update ldm/lab/exercises/exercises.json"
            )
        text = text.replace(before, after)
    lines = live_source(exercise).splitlines(keepends=True)
    return Attempt("".join([*lines[: start - 1], text, *lines[stop:]]), ROOT / exercise.file)


def with_answer(exercise: Exercise, answer: str, path: Path) -> Attempt:
    """A learner's file, with the names of its helpers.

    Raises `LdmError` if the file is not valid Python, imports `*`, or lacks the function or its arguments.
    """
    node, _ = live_function(exercise)
    tree = _parsed(answer, path)
    found = find_function(tree, exercise.function)
    if found is None:
        raise LdmError(
            f"{path} has no {exercise.function}; start again with `ldm exercise start {exercise.name}`"
        )
    mine, top = found
    if _arguments(mine) != _arguments(node):
        raise LdmError(
            f"{path}: {exercise.function} takes ({', '.join(_arguments(mine))}); "
            f"the tests call it with ({', '.join(_arguments(node))})"
        )
    helpers = [n for n in tree.body if isinstance(n, CARRIED) and n is not top and not _is_given(n, exercise)]
    return Attempt(answer, path, tuple(name for helper in helpers for name in _defined(helper)))


def _parsed(answer: str, path: Path) -> ast.Module:
    try:
        tree = ast.parse(answer)
    except SyntaxError as error:
        raise LdmError(f"{path}, line {error.lineno}: not valid Python: {error.msg}") from error
    except ValueError as error:
        raise LdmError(f"{path}: not valid Python: {error}") from error
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            raise LdmError(f"{path}, line {node.lineno}: `import *` is not supported; name what you need")
    return tree


def _arguments(node: Function) -> list[str]:
    arguments = node.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _is_given(node: ast.stmt, exercise: Exercise) -> bool:
    """Whether a statement imports what the module has itself."""
    return isinstance(node, ast.ImportFrom) and node.module in (exercise.module, "__future__")
