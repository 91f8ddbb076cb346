"""What a learner has done so far: the exercises solved, and how many hints were read.

It is kept in a small file beside the learner's answers, `progress.json`:

    {"attention": {"hints": 1, "solved": true}}
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ldm.errors import LdmError
from ldm.files.read_write import atomic_path, read_json
from ldm.lab.exercises.exercise import Exercise

FILE = "progress.json"


@dataclass(frozen=True)
class Done:
    """How far a learner is with one exercise."""

    hints: int = 0
    solved: bool = False


def read_progress(folder: Path) -> dict[str, Done]:
    """What is done, by the names of exercises. Raises `LdmError` if the file is not one of ours."""
    path = folder / FILE
    if not path.exists():
        return {}
    entries = read_json(path)
    try:
        return {
            name: Done(max(0, int(entry["hints"])), bool(entry["solved"])) for name, entry in entries.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LdmError(f"{path} is no record of exercises; move it away to begin a new one") from error


def note(folder: Path, exercise: Exercise, *, hint: bool = False, solved: bool = False) -> Done:
    """Note that another hint was read, or that the exercise is solved. Returns how far it is now."""
    progress = read_progress(folder)
    done = progress.get(exercise.name, Done())
    hints = min(done.hints + hint, len(exercise.hints))
    progress[exercise.name] = replace(done, hints=hints, solved=done.solved or solved)
    text = json.dumps({name: asdict(each) for name, each in sorted(progress.items())}, indent=1)
    with atomic_path(folder / FILE) as path:
        path.write_text(text + "\n", encoding="utf-8")
    return progress[exercise.name]
