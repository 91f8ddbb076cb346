r"""How captions are typed: mistakes are single slips, and a fifth of them is withheld."""

import numpy as np

from ldm.postcards.typed import (
    MISTAKEN,
    NEIGHBOURS,
    as_typed,
    is_withheld_mistake,
    misspelled,
    with_mistakes,
    without_accents,
)


def is_one_slip(word, wrong):
    r"""Whether `wrong` is `word` with one letter replaced, dropped or doubled, or two neighbours swapped."""
    if len(wrong) == len(word):
        differ = [i for i in range(len(word)) if word[i] != wrong[i]]
        swapped = len(differ) == 2 and differ[1] == differ[0] + 1
        return len(differ) == 1 or (
            swapped and word[differ[0]] == wrong[differ[1]] and word[differ[1]] == wrong[differ[0]]
        )
    longer, shorter = max(word, wrong, key=len), min(word, wrong, key=len)
    return len(longer) == len(shorter) + 1 and any(
        longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer))
    )


def test_the_neighbours_of_keys_by_hand():
    assert set(NEIGHBOURS["en"]["g"]) == set("tyfhvb")
    assert set(NEIGHBOURS["en"]["a"]) == set("qwsz")
    assert set(NEIGHBOURS["fr"]["a"]) == set("zq")
    for keys in NEIGHBOURS.values():
        assert all(a in keys[b] for a, near in keys.items() for b in near)  # touching is mutual


def test_a_misspelling_is_one_slip_and_another_word():
    rng = np.random.default_rng(0)
    for word in ("glasses", "forêt", "l'océan", "snow-capped", "Lake"):
        found = {misspelled(word, "fr" if "ê" in word else "en", rng) for _ in range(300)}
        assert word not in found and len(found) > 15
        assert all(is_one_slip(word, wrong) for wrong in found)


def test_a_replaced_letter_is_a_neighbour_on_the_keyboard_of_the_language():
    rng = np.random.default_rng(1)
    for language in ("en", "fr"):
        for wrong in (misspelled("lampe", language, rng) for _ in range(400)):
            changed = [(a, b) for a, b in zip("lampe", wrong, strict=False) if a != b]
            if len(wrong) == 5 and len(changed) == 1:
                assert changed[0][1] in NEIGHBOURS[language][changed[0][0]]


def test_about_a_tenth_of_captions_has_mistakes_and_none_that_is_withheld():
    text = "a serene lake surrounded by mountains at sunrise"
    rng, mistaken = np.random.default_rng(2), 0
    for _ in range(3000):
        typed = as_typed(text, "en", rng).casefold().rstrip(".!").split()
        wrong = [word for word, right in zip(typed, text.split(), strict=True) if word != right]
        mistaken += bool(wrong)
        assert len(wrong) <= 2 and not any(map(is_withheld_mistake, wrong))
    assert abs(mistaken / 3000 - MISTAKEN) < 0.02


def test_withheld_mistakes_are_the_others():
    rng = np.random.default_rng(3)
    for _ in range(200):
        wrong = with_mistakes("three boats", "en", rng, withheld=True).split()
        assert any(map(is_withheld_mistake, wrong))


def test_without_mistakes_only_case_punctuation_and_accents_vary():
    rng = np.random.default_rng(4)
    typed = {as_typed("une forêt, la nuit", "fr", rng, mistakes=False) for _ in range(300)}
    assert {without_accents(t.casefold()).replace(",", "").rstrip(".!") for t in typed} == {
        "une foret la nuit"
    }
    assert {"une forêt, la nuit", "une foret, la nuit", "Une forêt, la nuit.", "UNE FORÊT, LA NUIT"} <= typed
