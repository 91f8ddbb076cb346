r"""The end of a module's page: what to do with it now. Its tests, exercises and notebooks, and who uses whom."""

from collections.abc import Iterable
from pathlib import Path

from docutils import nodes

from annotated.names import Module, Names
from ldm.lab.exercises.exercise import exercises_in
from tests.components import component_files, count_tests, shortest


def foot(module: Module, names: Names) -> nodes.container:
    """Commands to type, notebooks to open, and the two lists of modules, folded away."""
    box = nodes.container(classes=["foot"])
    count, command, file = tests_of(module, names.root)
    if count:
        box += card(
            "Test it", [f"{count} tests say what this file has to do"], [command], [file] if file else []
        )
    for exercise in exercises_in(module.name):
        box += card("Write it yourself", [exercise.task], [f"ldm exercise start {exercise.name}"])
    if notebooks := names.notebooks.get(module.name, []):
        box += card("Step through it", ["Predict, run, look"], notebooks)
    used = {"Stands on": module.uses, "Used by": names.users.get(module.name, [])}
    lists = [line(f"{title}: ", modules) for title, modules in used.items() if modules]
    return nodes.container(
        "", box, *([folded("What it imports, and what imports it", *lists)] if lists else [])
    )


def card(title: str, words: Iterable[str], *mentions: Iterable[str]) -> nodes.container:
    lines = [line("", group) for group in mentions if group]
    said = [nodes.paragraph("", word[:1].upper() + word[1:] + ".") for word in words]
    return nodes.container(
        "", nodes.paragraph("", title, classes=["card-title"]), *said, *lines, classes=["card"]
    )


def line(title: str, mentions: Iterable[str]) -> nodes.paragraph:
    """Mentions in a line; `links.py` makes links of those that are modules or notebooks."""
    line = nodes.paragraph("", "", nodes.Text(title))
    for i, mention in enumerate(mentions):
        line += [nodes.Text(", " if i else ""), nodes.literal("", mention)]
    return line


def folded(summary: str, *inside: nodes.Element | None) -> nodes.container:
    """What a reader opens to see: HTML's `details`."""
    begin = nodes.raw("", f'<details class="fold"><summary>{summary}</summary>', format="html")
    end = nodes.raw("", "</details>", format="html")
    return nodes.container("", begin, *filter(None, inside), end)


def tests_of(module: Module, root: Path) -> tuple[int, str, str]:
    """How many tests a module, or a folder, has; what to type for them; and their file, if it is one."""
    if not (root / "tests").is_dir():
        return 0, "", ""
    if module.path.startswith("tests/"):  # it is a file of tests itself
        return count_tests(root / module.path), f"make test ARGS={module.path}", ""
    files = component_files(root)
    folder, _, file = module.path.replace("ldm/", "tests/", 1).rpartition("/")
    mine = [f for f in files if str(f) == f"{folder}/test_{file}"]
    name = shortest(mine[0], files) if mine else ""
    if file == "__init__.py" and folder != "tests":
        mine, name = [f for f in files if str(f.parent) == folder], module.name.rpartition(".")[2]
    count = sum(count_tests(root / f) for f in mine)
    return count, f"make test C={name}", str(mine[0]) if len(mine) == 1 else ""
