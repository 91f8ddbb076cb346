r"""What is true of a scene, in two forms: answers to fixed questions, and a set of short facts.

A judge learns to answer the questions (`labels`) from drawings; things of a kind, and animals, are asked about one by
one, from the left. What a caption or a person asks for is a set of facts ("2 boat", "red boat", "dog glasses"); `facts`
says which of them follow from answers, whether a scene gave them or a judge.
"""

from __future__ import annotations

from collections.abc import Mapping

from ldm.postcards.scene import (
    ANIMALS,
    COLOURLESS,
    COLOURS,
    FURS,
    GARMENTS,
    PLACES,
    RELIEFS,
    SLOTS,
    STYLES,
    THINGS,
    TIMES,
    WALLS,
    WEATHERS,
    Animal,
    Scene,
)

_WHICH = ("first", "second")  # the animals, from the left
_NTH = ("", "second ", "third ")  # the things of a kind, from the left
_YES_NO = ("yes", "no")


def _questions() -> dict[str, tuple[str, ...]]:
    asked: dict[str, tuple[str, ...]] = {
        "place": (*PLACES, "wall"),
        "style": STYLES,
        "relief": RELIEFS,
        "time": TIMES,
        "weather": WEATHERS,
        "sun": ("left", "right", "hidden"),
        "wall": WALLS,
        "uniform wall": _YES_NO,
        "animals": ("0", "1", "2"),
        "animal side": SLOTS,
        "eyes match": _YES_NO,
    }
    for kind in THINGS:
        asked[kind] = ("0", "1") if kind == "waterfall" else ("0", "1", "2", "3")
        asked[f"{kind} side"] = SLOTS
        if kind not in COLOURLESS:
            asked |= {f"{nth}{kind} colour": COLOURS for nth in _NTH}
    for which in _WHICH:
        asked |= {f"{which} animal": ANIMALS, f"{which} fur": FURS}
        for garment in GARMENTS:
            asked[f"{which} {garment}"] = _YES_NO if garment in COLOURLESS else ("no", *COLOURS)
    return asked


# Each question with its possible answers.
QUESTIONS = _questions()


def labels(scene: Scene, flaw: str = "") -> dict[str, str]:
    r"""The right answer to every question that makes sense for the scene; `flaw` is what `draw` was given."""
    answers = {"style": scene.style, "animals": str(len(scene.animals))}
    if scene.place:
        answers |= {
            "place": scene.place,
            "relief": scene.relief,
            "time": scene.time,
            "weather": scene.weather,
        }
        answers["sun"] = scene.sun if scene.sun_is_visible else "hidden"
        for kind in THINGS:
            answers |= _about_things(scene, kind)
    else:
        answers |= {"place": "wall", "wall": scene.wall}
        if scene.style != "watercolour":  # whose washes are never uniform
            answers["uniform wall"] = "no" if flaw == "mottled wall" else "yes"
    if len(scene.animals) == 1:
        answers["animal side"] = SLOTS[scene.animals[0].slot]
    if scene.animals:
        answers["eyes match"] = "no" if flaw == "odd eyes" else "yes"
    for which, animal in zip(_WHICH, sorted(scene.animals, key=lambda a: a.slot), strict=False):
        answers |= _about_animal(which, animal)
    return answers


def _about_things(scene: Scene, kind: str) -> dict[str, str]:
    found = sorted((thing for thing in scene.things if thing.kind == kind), key=lambda thing: thing.slot)
    answers = {kind: str(len(found))}
    if len(found) == 1:
        answers[f"{kind} side"] = SLOTS[found[0].slot]
    if kind not in COLOURLESS:
        answers |= {f"{nth}{kind} colour": thing.colour for nth, thing in zip(_NTH, found, strict=False)}
    return answers


def _about_animal(which: str, animal: Animal) -> dict[str, str]:
    answers = {f"{which} animal": animal.kind, f"{which} fur": animal.fur}
    worn = {garment.kind: garment.colour or "yes" for garment in animal.wears}
    return answers | {f"{which} {kind}": worn.get(kind, "no") for kind in GARMENTS}


def facts(answers: Mapping[str, str]) -> frozenset[str]:
    r"""All facts that follow from answers to the questions; answers to questions that do not apply are ignored.

    Of a place: "lake", "mountains", "sunrise", "rain", "watercolour", "sun left"; "wall", "red wall". Of things:
    "boat", "no boat", "2 boat" (exactly two), "red boat", "boat left", "boat left of house". Of animals: "dog",
    "no dog", "2 dog", "2 animals", "brown dog", "dog left", "dog left of cat", "hat", "red hat", "dog hat",
    "dog red hat", "brown dog hat", "dog no hat".
    """
    true = {answers["style"]}
    if answers["place"] == "wall":
        true |= {"wall", f"{answers['wall']} wall"} | {f"no {kind}" for kind in THINGS}
        sides: dict[str, str] = {}
    else:
        true |= {answers[name] for name in ("place", "relief", "time", "weather")}
        true.add(f"sun {answers['sun']}")
        sides = {
            kind: answers[f"{kind} side"]
            for kind in THINGS
            if answers[kind] == "1" and f"{kind} side" in answers
        }
        for kind in THINGS:
            true |= {f"no {kind}"} if answers[kind] == "0" else {kind, f"{answers[kind]} {kind}"}
            if kind not in COLOURLESS:
                true |= {f"{answers[f'{nth}{kind} colour']} {kind}" for nth in _NTH[: int(answers[kind])]}
    count = int(answers["animals"])
    present = [answers[f"{which} animal"] for which in _WHICH[:count]]
    true |= {f"{count} animals"} | {f"no {kind}" for kind in ANIMALS if kind not in present}
    for which, kind in zip(_WHICH, present, strict=False):
        true |= {kind, f"{present.count(kind)} {kind}"} | _animal_facts(answers, which, kind)
        if present.count(kind) == 1:
            sides[kind] = (
                answers["animal side"] if count == 1 else {"first": "left", "second": "right"}[which]
            )
    true |= {f"{kind} {side}" for kind, side in sides.items()}
    for kind, side in sides.items():
        others = (k for k, s in sides.items() if SLOTS.index(s) > SLOTS.index(side))
        true |= {f"{kind} left of {other}" for other in others}
    return frozenset(true)


def _animal_facts(answers: Mapping[str, str], which: str, kind: str) -> set[str]:
    fur = answers[f"{which} fur"]
    true = {f"{fur} {kind}"}
    for garment in GARMENTS:
        worn = answers[f"{which} {garment}"]
        if worn == "no":
            true.add(f"{kind} no {garment}")
        else:
            true |= {garment, f"{kind} {garment}", f"{fur} {kind} {garment}"}
            true |= {f"{worn} {garment}", f"{kind} {worn} {garment}"} if worn != "yes" else set()
    return true


def topic(fact: str) -> str:
    r"""What a fact is about: "place", "relief", "time", "weather", "style", "wall", "side", "absence", "count",
    "garment", "garment colour", "colour" (of a thing or of fur), or "thing" (that something is there).
    """
    words = fact.split()
    for name, values in _ONE_WORD.items():
        if fact in values:
            return name
    if words[-1] == "wall":
        return "wall"
    if words[0] == "no" or "no" in words[1:2]:
        return "absence"
    if words[0].isdigit():
        return "count"
    if {"left", "middle", "right", "hidden"} & set(words):
        return "side"
    if words[-1] in GARMENTS:
        coloured = len(words) > 1 and words[-2] in COLOURS
        return "garment colour" if coloured else "garment"
    return "colour" if len(words) > 1 else "thing"


_ONE_WORD = {"place": PLACES, "relief": RELIEFS, "time": TIMES, "weather": WEATHERS, "style": STYLES}
