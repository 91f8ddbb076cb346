r"""A function without one of its checks: a condition that raises an error, a bound, a conversion.

Somebody who writes the function from its docstring forgets these first, so an exercise's tests have to notice.
"""

import ast
from collections.abc import Iterator

from ldm.lab.exercises.exercise import Exercise
from ldm.lab.exercises.patching import ROOT, Attempt, find_function, live_source

# Calls that keep a value in bounds, or in its dtype: `x.clamp(...)` without the call is `x`.
METHODS = {"clamp", "clamp_min", "to", "float"}


def is_raise(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise)


def unguarded(expression: ast.expr) -> ast.expr | None:
    r"""What a call checks or converts, if that is all it does."""
    match expression:
        case ast.Call(func=ast.Attribute(value=inner, attr=name)) if name in METHODS:
            return inner
        case ast.Call(func=ast.Attribute(attr="to_own_dtype"), args=[inner]):
            return inner
        case ast.Call(func=ast.Name(id="max" | "min"), args=[ast.Constant(), inner]):
            return inner
        case ast.Call(func=ast.Name(id="zip"), keywords=[ast.keyword(arg="strict")]):
            return ast.Call(expression.func, expression.args, [])
    return None


class Without(ast.NodeTransformer):
    r"""Takes away the check number `place`, and counts them all."""

    def __init__(self, place: int) -> None:
        self.place, self.found, self.gone = place, 0, ""

    def is_it(self, node: ast.AST) -> bool:
        self.found += 1
        if self.found - 1 != self.place:
            return False
        self.gone = ast.unparse(node).partition("\n")[0]
        return True

    def visit_If(self, node: ast.If) -> ast.AST:
        if all(map(is_raise, node.body)) and not node.orelse and self.is_it(node):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        inner = unguarded(node) if isinstance(node, ast.expr) else None
        if inner is not None and self.is_it(node):
            return inner
        return super().generic_visit(node)


def without_each_check(exercise: Exercise) -> Iterator[tuple[str, Attempt]]:
    r"""The module without one check of the exercise's function, for each of them; and what is gone."""
    place = 0
    while True:
        tree = ast.parse(live_source(exercise))
        found = find_function(tree, exercise.function)
        assert found is not None
        node, _ = found
        taking = Without(place)
        node.body = [taking.visit(statement) for statement in node.body]
        last = node.body[-1]
        if (
            is_raise(last) and taking.found == place
        ):  # nothing else came: what is reached when no case matched
            taking.gone, node.body[-1] = ast.unparse(last), ast.Pass()
        if not taking.gone:
            return
        yield taking.gone, Attempt(ast.unparse(ast.fix_missing_locations(tree)), ROOT / exercise.file)
        place += 1
