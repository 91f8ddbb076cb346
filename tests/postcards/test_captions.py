r"""Captions: worked by hand, true of the scene, grammatical, and never what training must not see."""

import re
from functools import cache
from unittest.mock import Mock

import numpy as np
import pytest

from ldm.errors import LdmError
from ldm.postcards import (
    DEMO_PROMPTS,
    Animal,
    Garment,
    Scene,
    Thing,
    caption,
    caption_with_facts,
    captions,
    draw_with_boxes,
    english,
    facts,
    french,
    handwritten,
    labels,
    mistyped_caption,
    names,
    sample_scene,
    vocabulary,
    withheld_caption,
)
from ldm.postcards.captions import LANGUAGES, WITHHELD, is_withheld, normalised
from ldm.postcards.plan import Group, Plan, plan
from ldm.postcards.sentences import sentence
from ldm.postcards.typed import is_withheld_mistake, without_accents

LAKE = Scene("lake", "mountains", "sunrise", "clear", "left")
FALLS = Scene("forest", "none", "sunrise", "clear", "left", things=(Thing("waterfall", "", 0),))
DOG = Animal("dog", "brown", (Garment("glasses", ""), Garment("hat", "red")), "portrait", 1)


@cache
def many(language, count=2000, seed=0, **how):
    rng = np.random.default_rng(seed)
    return [caption(sample_scene(rng), rng, language, **how) for _ in range(count)]


@cache
def drafts(language, count=5000):
    r"""Sentences before they are typed: with their accents and commas, in lower case."""
    rng = np.random.default_rng(9)
    return [sentence(plan(sample_scene(rng), rng), LANGUAGES[language], rng) for _ in range(count)]


def first_choices(way):
    r"""A generator whose every choice is the first word and whose every chance is `way`."""
    rng = Mock(spec=np.random.Generator)
    rng.integers.return_value = 0
    rng.random.return_value = way
    rng.permutation.side_effect = range
    return rng


def test_sentences_worked_by_hand():
    lake = Plan("lake", "mountains", "sunrise", groups=(Group("boat", 2, "red"),))
    dog = Group("dog", 1, "brown", wears=(Garment("hat", "red"), Garment("glasses", "")))
    wall = Plan(wall="green", groups=(dog,))
    # 0.5: the place first, no mood, everything in the given order.
    assert sentence(lake, english, first_choices(0.5)) == (
        "a lake surrounded by snow-capped mountains at sunrise with two red boats"
    )
    assert sentence(lake, french, first_choices(0.5)) == (
        "un lac entouré de montagnes enneigées au lever du soleil avec deux bateaux rouges"
    )
    # 0.2: what there is comes first, and the place with its mood and the definite article.
    assert sentence(lake, english, first_choices(0.2)) == (
        "two red boats on the serene lake surrounded by snow-capped mountains at sunrise"
    )
    assert sentence(wall, english, first_choices(0.5)) == (
        "a brown dog with a red hat and glasses on a green background"
    )
    assert sentence(wall, french, first_choices(0.5)) == (
        "un chien brun avec un chapeau rouge et des lunettes sur fond vert"
    )
    # 0.9: with an opener, which in French contracts with what follows; the time comes first.
    assert sentence(lake, english, first_choices(0.9)) == (
        "at sunrise, a picture of a lake surrounded by snow-capped mountains with two red boats"
    )
    assert sentence(Plan("forest"), french, first_choices(0.9)) == "une image d'une forêt"
    # 0.05: a list.
    assert sentence(Plan("lake", time="night", groups=(Group("boat", 3),)), english, first_choices(0.05)) == (
        "three little boats, serene lake, night"
    )


def test_what_a_caption_says_is_true_of_its_scene():
    rng = np.random.default_rng(1)
    for i in range(1500):
        scene = sample_scene(rng, ("train", "held_out")[i % 2])
        said = caption_with_facts(scene, rng)
        assert said.facts and said.facts <= facts(labels(scene)), (said, scene)


def test_a_full_caption_names_everything_that_is_there():
    rng = np.random.default_rng(2)
    for _ in range(500):
        scene = sample_scene(rng)
        said = caption_with_facts(scene, rng, partial=False).facts
        parts = (scene.place, scene.relief, scene.time, scene.weather, scene.style)
        assert {part for part in parts if part not in ("", "none", "clear", "plain")} <= said
        assert not scene.wall or f"{scene.wall} wall" in said
        for thing in scene.things:
            assert thing.kind in said and (not thing.colour or f"{thing.colour} {thing.kind}" in said)
        for animal in scene.animals:
            assert f"{animal.fur} {animal.kind}" in said
            assert all(f"{animal.kind} {garment.kind}" in said for garment in animal.wears)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_words_say_the_facts(language):
    r"""Each fact of a plan is in the text, in one of the language's words for it."""
    grammar, rng = LANGUAGES[language], np.random.default_rng(3)

    def forms(words):
        for word in words:
            yield from (
                word
                if isinstance(word, tuple)
                else (getattr(word, "word", word), getattr(word, "many", word))
            )

    tables = {
        **grammar.PLACES, **grammar.RELIEFS, **grammar.NOUNS,
        **{name: (*grammar.TIMES[name], *grammar.MOMENTS[name], *(grammar.SUNNY if name == "day" else ()))
           for name in grammar.TIMES},
        **{name: (*grammar.WEATHERS[name], *grammar.WEATHER_TAGS[name], *grammar.WET.get(name, ()))
           for name in grammar.WEATHERS},
    }  # fmt: skip
    for _ in range(2000):
        scene = sample_scene(rng)
        planned = plan(scene, rng)
        text = sentence(planned, grammar, rng)
        named = [planned.place, planned.relief, planned.time, planned.weather]
        named += [kind for g in planned.groups for kind in (g.kind, *(w.kind for w in g.wears))]
        for name in filter(None, named):
            assert any(form in text for form in forms(tables[name])), (name, text)
        for colour in [g.colour for g in planned.groups] + [planned.wall]:
            assert not colour or any(form in text for form in forms(grammar.COLOURS[colour])), (colour, text)


def test_the_same_generator_gives_the_same_caption():
    assert many(None, 200) == many(None, 200)
    assert many(None, 200) != many(None, 200, 1)


@pytest.mark.parametrize("guarded", [True, False])
def test_no_caption_is_a_demo_or_handwritten_prompt_though_without_the_guard_some_are(guarded, monkeypatch):
    if not guarded:
        monkeypatch.setattr(captions, "_never", frozenset)
    never = {normalised(text) for text in (*DEMO_PROMPTS, *(prompt.text for prompt in handwritten()))}
    rng, scenes = (
        np.random.default_rng(4),
        (LAKE, FALLS, Scene(wall="red", animals=(DOG,)), Scene("sea", "none", "day", "clear", "left")),
    )
    written = {normalised(caption(scenes[i % 4], rng)) for i in range(8000)}
    assert (not written & never) == guarded


def test_captions_are_short_and_varied():
    texts = many(None)
    assert (
        max(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts) <= captions.MAX_LENGTH + 1
    )  # a full stop
    assert np.mean([len(text.split()) for text in texts]) < 16
    assert len(set(texts)) > 0.9 * len(texts)
    assert all(text == " ".join(text.split()) for text in texts)


def test_captions_count_negate_and_place():
    text = "\n".join(many("en")).casefold()
    for words in ("two ", "three ", " and ", "without ", " but without ", "on the left", "on the right",
                  "to the left of", "in the middle", "a picture of", "please", "sitting"):  # fmt: skip
        assert words in text, words
    text = "\n".join(many("fr")).casefold()
    for words in ("deux ", "trois ", " et ", "sans ", "à gauche", "à droite", "au milieu", "une image d",
                  "s'il te plaît", "assis", "aquarelle d"):  # fmt: skip
        assert words in text, words


def test_english_says_an_before_a_vowel_and_a_elsewhere_and_plurals_after_numbers():
    text = "\n".join(drafts("en"))
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
    assert "an orange" in text and "an ocean" in text
    for number in ("two", "2", "three", "3"):
        for kind in ("boat", "house", "dog", "cat", "flower"):
            assert not re.search(rf"\b{number}( \w+)? {kind}\b", text)
    assert not re.search(r"  |\b(\w+) \1\b", text.replace("-", ""))


MASCULINE = "lac|étang|bois|océan|désert|pré|champ|pâturage|bateau|navire|ballon|chien|chat|lapin|ours|chapeau|foulard"
FEMININE = "forêt|mer|plage|prairie|maison|fleur|cascade|montgolfière|écharpe"


def test_french_articles_adjectives_and_plurals_agree():
    text = "\n".join(drafts("fr"))
    assert not re.search(
        rf"\b(?:un|le) (?:petit )?(?:{FEMININE})\b|\b(?:une|la) (?:petite )?(?:{MASCULINE})\b", text
    )
    male = "(?:vert|blanc|noir|bleu|violet|gris|brun|doré|serein|silencieux|assis|entouré|bordé)"
    female = (
        "(?:verte|blanche|noire|bleue|violette|grise|brune|dorée|sereine|silencieuse|assise|entourée|bordée)"
    )
    assert not re.search(rf"\b(?:{FEMININE}) {male}\b|\b(?:{MASCULINE}) {female}\b", text)
    assert not re.search(rf"\b(?:deux|trois|2|3) (?:{MASCULINE}|{FEMININE})\b(?<!ours)", text)
    assert not re.search(
        r"(?:bateaux|maisons|fleurs|chats|chiens) (?:rouge|vert|verte|bleu|bleue|noir)\b", text
    )
    for right in (
        "forêt sereine",
        "lac serein",
        "mer entourée",
        "(bateaux|navires) (rouges|bleus|verts)",
        "maisons (bleues|vertes|blanches)",
        "ours gris",
        "toile violette",
    ):
        assert re.search(right, text), right


def test_french_elides_and_contracts():
    assert french.Noun("océan", "océans").the("océan calme") == "l'océan calme"
    assert french.Noun("forêt", "forêts", feminine=True).the("forêt") == "la forêt"
    assert french.of("de", "le lac") == "du lac" and french.of("de", "un lac") == "d'un lac"
    assert french.of("au bord de", "l'océan") == "au bord de l'océan"
    assert french.of("au-dessus de", "le lac") == "au-dessus du lac"
    assert french.of("sur", "le lac") == "sur le lac"
    assert french.of("au pied de", "hautes montagnes") == "au pied de hautes montagnes"
    text = "\n".join(drafts("fr"))
    assert not re.search(r"\bde (le|les|un|une)\b|\b(de|le|la) [aeiouéèêàâôî]|\bd'(à|au|sur|sous)\b", text)


def test_an_unknown_language_is_refused_by_name():
    with pytest.raises(LdmError, match="'de'.*'en', 'fr' or None"):
        caption(LAKE, np.random.default_rng(0), "de")


def test_no_caption_uses_a_withheld_wording_and_by_hand_what_that_is():
    def before(wall, kind, garment):
        return Scene(wall=wall, animals=(Animal(kind, "grey", (Garment(garment, ""),), "portrait", 1),))

    assert is_withheld("A Kitten with glasses, on red", before("red", "cat", "glasses"))
    assert not is_withheld("a kitten with a hat", before("red", "cat", "hat"))
    assert not is_withheld("a cat with glasses", before("red", "cat", "glasses"))
    assert not is_withheld("a cubist picture of a bear", before("red", "bear", "scarf"))  # whole words only
    rng = np.random.default_rng(5)
    for scene in (sample_scene(rng) for _ in range(1000)):
        assert not is_withheld(caption(scene, rng, mistakes=False), scene)


@pytest.mark.long
def test_each_withheld_wording_is_met_when_asked_for_and_elsewhere_in_training():
    rng, asked, used = np.random.default_rng(6), set(), set()
    words = {word for word, _ in WITHHELD}
    for scene in (sample_scene(rng) for _ in range(12_000)):
        if asked == words and words <= used:
            return
        found = withheld_caption(scene, rng, tries=10)
        if found is not None:
            assert is_withheld(found.text, scene) and found.facts <= facts(labels(scene))
            asked |= {
                w for w, fact in WITHHELD if re.search(rf"\b{w}", found.text) and fact in facts(labels(scene))
            }
        used |= set(re.findall(r"\w+", caption(scene, rng).casefold()))
    pytest.fail(f"never asked for: {sorted(words - asked)}, never used in training: {sorted(words - used)}")


def test_where_nothing_is_withheld_there_is_no_such_caption():
    scene = Scene(wall="red", animals=(Animal("dog", "grey", (), "portrait", 1),))
    assert withheld_caption(scene, np.random.default_rng(0)) is None


def test_a_mistyped_caption_has_a_misspelling_that_training_never_makes():
    rng = np.random.default_rng(7)
    known = {word for language in LANGUAGES for word in vocabulary(language, 1500)}
    for _ in range(200):
        found = mistyped_caption(sample_scene(rng), rng)
        wrong = [
            word for word in found.text.split() if is_withheld_mistake(word) and normalised(word) not in known
        ]
        assert wrong, found.text


def test_the_vocabulary_is_the_words_of_captions_and_covers_the_demo_prompts():
    for language, prompts in (("en", DEMO_PROMPTS[:3]), ("fr", DEMO_PROMPTS[3:])):
        words = vocabulary(language, 5000)
        assert words == sorted(set(words)) and 150 < len(words) < 400
        assert {word for prompt in prompts for word in normalised(prompt).split()} <= set(words)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_box_has_names_and_a_caption_that_mentions_its_thing_uses_one(language):
    rng = np.random.default_rng(8)
    for _ in range(150):
        scene = sample_scene(rng)
        said = caption_with_facts(scene, rng, language, mistakes=False)
        text = without_accents(said.text.casefold())
        for word in {box.word for box in draw_with_boxes(scene, rng, 32)[1]}:
            found = any(without_accents(name) in text for name in names(word, language))
            assert found or word not in said.facts, (word, said)
