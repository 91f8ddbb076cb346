r"""Sentences: the phrases of a plan in one of many orders, the same for both languages."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np

from ldm.postcards.plan import Plan
from ldm.postcards.scene import PLACES_WITH_WATER
from ldm.postcards.words import join, listed, pick, shuffled


def sentence(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> str:
    r"""The plan in the words of a language (`grammar` is `english` or `french`), without a full stop.

    Most plans become a phrase ("two boats on a calm lake at dusk"), some a list ("calm lake, dusk, two boats").
    """
    way = rng.random()
    if way < 0.10:
        return _tags(plan, grammar, rng)
    front, text = (_landscape if plan.place else _groups_first)(plan, grammar, rng)
    if plan.style:
        text = grammar.filled(pick(grammar.STYLES[plan.style], rng), text)
    elif way > 0.88:
        text = grammar.filled(pick(grammar.OPENERS, rng), text)
    return join(front, text)


def _tags(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> str:
    r"""A list of keywords in any order: "calm lake, dusk, two boats"."""
    said = _groups(plan, grammar, rng)
    if plan.place:
        said.append(grammar.place(plan.place, "", rng, bare=True)[0])
    tables = (grammar.RELIEFS, grammar.MOMENTS, grammar.WEATHER_TAGS, grammar.STYLE_TAGS)
    for name, table in zip((plan.relief, plan.time, plan.weather, plan.style), tables, strict=True):
        said += [pick(table[name], rng)] if name else []
    said += [grammar.wall(plan.wall, rng)] if plan.wall else []
    if plan.lacks and rng.random() < 0.5:
        said.append(grammar.of(grammar.NO, grammar.bare(plan.lacks)[1]))
        plan = replace(plan, lacks="")
    return ", ".join(shuffled([*said, *_rest(plan, grammar, rng)], rng))


def _landscape(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> tuple[str, str]:
    r"""The place first, or what stands in it, or the moment ("dawn over a forest"), perhaps "at dawn," before it."""
    way = rng.random()
    groups = _groups(plan, grammar, rng)
    only = plan.groups[0].kind if plan.groups else ""
    if groups and way < 0.42:
        where = _where("" if len(groups) > 1 or plan.left_of else only, plan.place, grammar, rng)
        place, weather, feminine = grammar.place(plan.place, plan.weather, rng)
        head, details = join(_together(groups, grammar, rng), grammar.of(where, place)), []
    else:
        place, weather, feminine = grammar.place(plan.place, plan.weather, rng)
        head, details = place, [join(grammar.WITH, _together(groups, grammar, rng))] if groups else []
    around = [grammar.around(plan.relief, feminine, rng)] if plan.relief else []
    when = _when(plan, grammar, rng)
    others = [*([pick(grammar.WEATHERS[weather], rng)] if weather else []), *_rest(plan, grammar, rng)]
    if when and way > 0.94:
        over = grammar.MOMENT_OVER.format(pick(grammar.MOMENTS[plan.time], rng))
        return "", join(over, head, *around, *shuffled([*details, *others], rng))
    if when and way > 0.84:
        return when[0] + ",", join(head, *around, *shuffled([*details, *others], rng))
    if rng.random() < 0.5:
        return "", join(head, *around, *details, *shuffled([*when, *others], rng))
    return "", join(head, *shuffled([*around, *when], rng), *shuffled([*details, *others], rng))


def _where(kind: str, place: str, grammar: ModuleType, rng: np.random.Generator) -> str:
    r"""The preposition between a thing or animal and its place; "" stands for several kinds."""
    usual = grammar.ASHORE if place in PLACES_WITH_WATER else grammar.INSIDE
    return pick(grammar.WHERE.get(kind, usual), rng)


def _groups_first(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> tuple[str, str]:
    r"""What there is, before a wall or in a landscape that is not named; the wall may come first ("on a red wall,")."""
    head = _together(_groups(plan, grammar, rng), grammar, rng)
    details = [grammar.around(plan.relief, None, rng)] if plan.relief else []
    details += _when(plan, grammar, rng)
    details += [pick(grammar.WEATHERS[plan.weather], rng)] if plan.weather else []
    details += _rest(plan, grammar, rng)
    behind = [grammar.wall(plan.wall, rng)] if plan.wall else []
    if behind and rng.random() < 0.1:  # "on a blue background, a cat"
        return behind[0] + ",", join(head, *details)
    return "", join(head, *shuffled([*details, *behind], rng))


def _groups(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> list[str]:
    r"""A noun phrase for each group; the first two may be one that relates them."""
    said = [grammar.group(group, rng) for group in plan.groups]
    if not plan.left_of:
        return said
    if rng.random() < 0.5:
        related = join(said[0], grammar.of(pick(grammar.LEFT_OF, rng), said[1]))
    else:
        related = join(said[1], grammar.of(pick(grammar.RIGHT_OF, rng), said[0]))
    return [related, *said[2:]]


def _when(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> list[str]:
    r"""The time of day, if the plan names it; by day, some phrases also say that the sky is clear."""
    sunny = grammar.SUNNY if plan.clear and plan.time == "day" else ()
    return [pick((*grammar.TIMES[plan.time], *sunny), rng)] if plan.time else []


def _together(groups: list[str], grammar: ModuleType, rng: np.random.Generator) -> str:
    r"""The phrases as one: "a, b and c"; of two, the second may be "next to" the first."""
    if len(groups) == 2 and rng.random() < 0.5:
        return join(groups[0], grammar.of(pick(grammar.TOGETHER, rng), groups[1]))
    return listed(groups, grammar.AND)


def _rest(plan: Plan, grammar: ModuleType, rng: np.random.Generator) -> list[str]:
    r"""What is missing and where the sun stands, if the plan says so."""
    said = [grammar.without(plan.lacks, rng)] if plan.lacks else []
    if plan.sun:
        body = "moon" if plan.time == "night" else "sun"
        said.append(join(grammar.WITH, grammar.BODIES[body], pick(grammar.SIDES[plan.sun], rng)))
    return said
