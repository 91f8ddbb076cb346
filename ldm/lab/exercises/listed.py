"""All exercises, in the order of the chapters."""

from difflib import get_close_matches

from ldm.chapters import reading_order
from ldm.errors import LdmError
from ldm.lab.exercises.exercise import Exercise
from ldm.lab.exercises.in_diffusion import IN_DIFFUSION
from ldm.lab.exercises.in_networks import IN_NETWORKS
from ldm.lab.exercises.in_text import IN_TEXT

_PLACE = {module: i for i, module in enumerate(reading_order())}
EXERCISES: dict[str, Exercise] = {
    e.name: e for e in sorted((*IN_TEXT, *IN_DIFFUSION, *IN_NETWORKS), key=lambda e: _PLACE[e.module])
}


def find(name: str) -> Exercise:
    """The exercise of this name. Raises `LdmError` for another one."""
    if name not in EXERCISES:
        near = get_close_matches(name, EXERCISES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(EXERCISES)}"
        raise LdmError(f"exercise {name!r}; {hint}")
    return EXERCISES[name]


def exercises_in(module: str) -> list[Exercise]:
    """The exercises whose function stands in this module ("ldm.nn.attention")."""
    return [exercise for exercise in EXERCISES.values() if exercise.module == module]
