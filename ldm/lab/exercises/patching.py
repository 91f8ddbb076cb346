r"""Cut a stub from the live source, and patch an answer into a copy of it.

Both work on text: `ast` finds the lines of a function, and these lines are replaced. So comments and layout survive,
and each line of the patched module can be traced to the learner's file.
"""

import ast
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent

from ldm.errors import LdmError
from ldm.lab.exercises.exercise import Exercise, Mistake

ROOT = Path(__file__).resolve().parents[3]
Function = ast.FunctionDef
# The statements of a learner's file that are taken with the answer: helpers, constants, imports.
CARRIED = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class PatchedModule:
    """A module's source with an answer in it."""

    source: str
    also: tuple[str, ...] = ()  # the names of the helpers taken with the answer
    lines: dict[int, int] = field(default_factory=dict)  # line number in the source -> in the learner's file


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


# --- from an answer to a patched module ---------------------------------------------------------------------


def unpatched(exercise: Exercise) -> PatchedModule:
    return PatchedModule(live_source(exercise))


def with_mistake(exercise: Exercise, mistake: Mistake) -> PatchedModule:
    """The module with a typical mistake. Raises `LdmError` if a passage to change no longer exists."""
    start, stop, text = solution(exercise)
    for before, after in mistake.changes.items():
        if before not in text:
            raise LdmError(
                f"{exercise.function} no longer contains {before!r}; update ldm/lab/exercises/exercises.json"
            )
        text = text.replace(before, after)
    lines = live_source(exercise).splitlines(keepends=True)
    return PatchedModule("".join([*lines[: start - 1], text, *lines[stop:]]))


def with_answer(exercise: Exercise, answer: str, path: str) -> PatchedModule:
    """The module with the function of a learner's file and, before it, the file's helpers.

    Raises `LdmError` if the file is not valid Python, imports `*`, or lacks the function or its arguments.
    """
    node, top = live_function(exercise)
    tree = _parsed(answer, path)
    found = find_function(tree, exercise.function)
    if found is None:
        raise LdmError(
            f"{path} has no {exercise.function}; start again with `ldm exercise start {exercise.name}`"
        )
    mine, my_top = found
    if _arguments(mine) != _arguments(node):
        raise LdmError(
            f"{path}: {exercise.function} takes ({', '.join(_arguments(mine))}); "
            f"the tests call it with ({', '.join(_arguments(node))})"
        )
    helpers = [
        n for n in tree.body if isinstance(n, CARRIED) and n is not my_top and not _is_given(n, exercise)
    ]
    theirs, lines = live_source(exercise).splitlines(keepends=True), answer.splitlines(keepends=True)
    patched: list[str] = theirs[: first_line(top) - 1]
    numbers: dict[int, int] = {}

    def take(statement: ast.stmt, column: int) -> None:
        start, stop = first_line(statement), statement.end_lineno or statement.lineno
        numbers.update({len(patched) + 1 + i: start + i for i in range(stop + 1 - start)})
        patched.extend(_moved(lines[start - 1 : stop], statement.col_offset, column))

    for helper in helpers:
        take(helper, 0)
    patched += theirs[first_line(top) - 1 : first_line(node) - 1]
    take(mine, node.col_offset)
    patched += theirs[node.end_lineno or node.lineno :]
    return PatchedModule(
        "".join(patched), tuple(name for helper in helpers for name in _defined(helper)), numbers
    )


def _parsed(answer: str, path: str) -> ast.Module:
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
    """Whether an import is unnecessary in the module, because it defines the names itself."""
    return isinstance(node, ast.ImportFrom) and node.module in (exercise.module, "__future__")


def _moved(lines: list[str], column: int, to: int) -> list[str]:
    """Lines of code, moved from one indentation to another; each ends with a newline."""
    text = "".join(lines)
    if column != to:
        text = indent(dedent(text), " " * to)
    return [line + "\n" for line in text.splitlines()]
