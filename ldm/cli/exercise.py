"""`ldm exercise`: write a function of this package yourself; the package's own tests check it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.cli.arguments import Commands, add_command
from ldm.cli.output import write_text
from ldm.errors import LdmError, printable
from ldm.files.read_write import LARGEST_CONFIG, read_text

if TYPE_CHECKING:
    from ldm.lab.exercises.exercise import Exercise

FOLDER = Path("outputs/exercises")


def exercise_options(commands: Commands) -> None:
    about = (
        "Write functions of this package yourself. `start` writes a stub into your folder, `check` runs the "
        "component's tests with your function in place (in a clone of the repository), `hint` gives the next hint, "
        "`solution` prints the package's code. The source is never changed."
    )
    p = add_command(commands, "exercise", exercise, "write a function yourself and check it", about)
    p.add_argument("action", choices=("list", "start", "check", "hint", "solution"), help="what to do")
    p.add_argument("name", nargs="?", metavar="NAME", help="which exercise (`start all` starts every one)")
    folder = f"the folder of your files ({FOLDER.as_posix()})"
    p.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help=folder)


def exercise(options: argparse.Namespace) -> None:
    from ldm.lab.exercises.exercise import find_exercise

    if options.action == "list":
        show_list(options.out)
    elif options.name is None:
        raise LdmError(f"exercise {options.action} needs a name; `ldm exercise list` shows them")
    elif options.action == "start":
        start(options.name, options.out)
    elif options.action == "check":
        check(find_exercise(options.name), options.out / f"{options.name}.py")
    elif options.action == "hint":
        show_hint(find_exercise(options.name), options.out)
    else:
        show_solution(find_exercise(options.name))


def show_list(folder: Path) -> None:
    from ldm.chapters import headings
    from ldm.lab.exercises.exercise import EXERCISES, exercises_in
    from ldm.lab.exercises.progress import Done, read_progress

    progress = read_progress(folder)
    for heading, chapter in headings():
        exercises = [e for module in chapter.full_names for e in exercises_in(module)]
        if exercises:
            print(heading)
        for e in exercises:
            started = "*" if (folder / f"{e.name}.py").exists() else " "
            mark = "x" if progress.get(e.name, Done()).solved else started
            print(f"{mark} {e.name:<20} {e.task}")
    solved = sum(progress.get(name, Done()).solved for name in EXERCISES)
    print(printable(f"x solved ({solved} of {len(EXERCISES)}), * started in {folder}"))
    print("`ldm exercise start NAME` starts one, `ldm exercise hint NAME` helps")


def start(name: str, folder: Path) -> None:
    from ldm.lab.exercises.exercise import EXERCISES, find_exercise
    from ldm.lab.exercises.patching import stub

    for e in EXERCISES.values() if name == "all" else [find_exercise(name)]:
        path = folder / f"{e.name}.py"
        if not path.exists():
            write_text(path, stub(e))  # which prints the path
        elif name != "all":
            raise LdmError(f"{path} exists and is kept; to start again, move it away")


def check(chosen: Exercise, path: Path) -> None:
    from ldm.lab.exercises.checking import explain, open_session, recognise
    from ldm.lab.exercises.patching import with_answer
    from ldm.lab.exercises.progress import note

    if not path.exists():
        raise LdmError(f"there is no {path}; begin with `ldm exercise start {chosen.name}`")
    attempt = with_answer(chosen, read_text(path, LARGEST_CONFIG), path)
    with open_session([chosen]) as session:
        found = session.run(chosen, attempt)
        known = [] if found.right or found.is_unwritten else recognise(session, chosen, found)
    for line in explain(chosen, path, found, known):
        print("    " + printable(line.strip()) if line.startswith(" ") else printable(line))
    if found.failures and not found.is_unwritten and not known:
        print(f"For a hint: ldm exercise hint {chosen.name}")
    if not found.right:
        raise LdmError(f"{chosen.name} does not pass its tests yet")
    note(path.parent, chosen, solved=True)


def show_hint(chosen: Exercise, folder: Path) -> None:
    from ldm.lab.exercises.progress import note, read_progress

    before = read_progress(folder).get(chosen.name)
    hints, number = chosen.hints, note(folder, chosen, hint=True).hints
    print(f"Hint {number} of {len(hints)}: {hints[number - 1]}")
    if before and before.hints == len(hints):
        print(f"That was the last one. The code: ldm exercise solution {chosen.name}")


def show_solution(chosen: Exercise) -> None:
    from ldm.lab.exercises.patching import solution

    first, last, text = solution(chosen)
    print(f"# {chosen.file}, lines {first} to {last}")
    print(f"# on the site: {chosen.file.removesuffix('.py')}.html#{chosen.function}\n")
    print(text, end="")
