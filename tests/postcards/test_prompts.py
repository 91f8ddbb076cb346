r"""The prompts written by hand: well formed, about this world, and unlike any training caption."""

import numpy as np
import pytest

from ldm.errors import LdmError
from ldm.postcards import DEMO_PROMPTS, caption, facts, handwritten, labels, sample_scene
from ldm.postcards.captions import normalised


def test_there_are_300_natural_prompts_and_100_with_mistakes_each_once():
    assert len(handwritten("natural")) == 300 and len(handwritten("typos")) == 100
    assert len({normalised(prompt.text) for prompt in handwritten()}) == 400


def test_prompts_of_an_unknown_kind_are_an_error():
    with pytest.raises(LdmError, match="'funny': expected one of 'natural', 'typos', or None"):
        handwritten("funny")


def test_every_fact_that_a_prompt_asks_for_can_be_true():
    rng, known = np.random.default_rng(0), set()
    asked = {fact for prompt in handwritten() for fact in prompt.facts}
    for i in range(20_000):
        known |= facts(labels(sample_scene(rng, ("train", "held_out")[i % 2])))
        if i % 1000 == 0 and asked <= known:
            break
    assert asked <= known, asked - known


def test_some_scene_shows_all_that_a_prompt_asks_for():
    r"""No prompt contradicts itself: checked for those whose scenes are not too rare."""
    rng = np.random.default_rng(1)
    seen = [facts(labels(sample_scene(rng))) for _ in range(10_000)]
    shown = [any(prompt.facts <= true for true in seen) for prompt in handwritten()]
    assert np.mean(shown) > 0.8


def test_prompts_with_mistakes_have_words_that_captions_never_use():
    rng = np.random.default_rng(2)
    used = {
        w for _ in range(2500) for w in normalised(caption(sample_scene(rng), rng, mistakes=False)).split()
    }
    odd = [set(normalised(prompt.text).split()) - used for prompt in handwritten("typos")]
    assert np.mean([bool(words) for words in odd]) > 0.95


def test_the_demo_prompts_are_not_among_them():
    assert not {normalised(p) for p in DEMO_PROMPTS} & {normalised(p.text) for p in handwritten()}
