r"""Zero-shot classification and retrieval, with embeddings that are known."""

import numpy as np
import pytest
import torch

from ldm.evaluate import understanding
from ldm.evaluate.judge import QUESTIONS, answers
from ldm.evaluate.understanding import (
    class_captions,
    classify,
    embed_captions,
    embed_pictures,
    retrieval,
    zero_shot,
)
from ldm.postcards import Landscape, Portrait
from tests.small import TOKENIZER, small_clip

CAT, DOG = Portrait("cat", "grey", "hat", "red"), Portrait("dog", "grey", "hat", "red")
LAKE = Landscape("lake", "hills", "night", "boat")


@pytest.fixture
def clip():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return small_clip()


def test_class_captions_are_of_scenes_of_that_class():
    assert all("cat" in c or "kit" in c or "chat" in c for c in class_captions("animal", "cat", 30))
    boats = "boat", "bateau", "voilier", "barque"
    assert all(any(b in c for b in boats) for c in class_captions("feature", "boat", 30))
    assert not any(any(b in c for b in boats) for c in class_captions("feature", "nothing", 60))
    assert class_captions("time", "day", 9) == class_captions("time", "day", 12)[:9]


def test_embedding_in_batches_is_embedding_one_by_one(clip):
    pixels = torch.rand(5, 3, 24, 24) * 2 - 1
    together = embed_pictures(clip, pixels, batch=2)
    torch.testing.assert_close(together, torch.cat([embed_pictures(clip, p[None]) for p in pixels]))
    texts = ["red", "dog", "red dog"]
    alone = torch.cat([embed_captions(clip, TOKENIZER, [text]) for text in texts])
    torch.testing.assert_close(embed_captions(clip, TOKENIZER, texts, batch=2), alone)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(5))


@pytest.fixture
def known_words(monkeypatch):
    r"""The captions of an animal lie around an axis of its own, with a spread that averages out."""
    axes = torch.eye(8)

    def embed(clip, tokenizer, texts, batch=256):
        k = QUESTIONS["animal"].index(texts[0].removeprefix("class "))
        spread = (
            axes[4 + k % 4].repeat(len(texts), 1) * torch.tensor([1.0, -1.0]).repeat(len(texts) // 2)[:, None]
        )
        return torch.nn.functional.normalize(axes[k] + 3 * spread, dim=1)

    monkeypatch.setattr(understanding, "embed_captions", embed)
    monkeypatch.setattr(
        understanding, "class_captions", lambda question, choice, count: [f"class {choice}"] * count
    )
    return axes


def test_a_class_is_the_mean_direction_of_its_captions(known_words):
    # Near the dog's axis, but exactly on one of the cat's scattered captions: no single caption decides.
    picture = torch.nn.functional.normalize(known_words[[0]] + 0.5 * known_words[[5]], dim=1)
    assert classify(None, None, picture, "animal", 4) == ["dog"]


def test_zero_shot_asks_of_each_scene_what_makes_sense(known_words, monkeypatch):
    asked = []

    def told(clip, tokenizer, pictures, question, count):
        asked.append((question, len(pictures)))
        return ["cat"] * len(pictures) if question == "animal" else [QUESTIONS[question][0]] * len(pictures)

    monkeypatch.setattr(understanding, "classify", told)
    shares = zero_shot(None, None, torch.zeros(3, 8), [CAT, LAKE, DOG])
    assert shares["animal"] == 1 / 2 and shares["kind"] == 1 / 3 and shares["place"] == 1
    assert dict(asked) == {q: 3 if q == "kind" else 1 if q in answers(LAKE) else 2 for q in shares}
    assert "count" not in shares and len(shares) == len(QUESTIONS) - 1


def test_retrieval_by_hand():
    texts = torch.eye(4)
    pictures = texts[[0, 1, 3, 2]]  # the last two find each other's caption
    assert (
        retrieval(pictures, texts, [CAT, LAKE, DOG, Portrait("bear", "grey", "hat", "red")], among=4) == 1 / 2
    )
    assert (
        retrieval(pictures, texts, [CAT, LAKE, DOG, DOG], among=4) == 1
    )  # which is right where the scene is one
    assert (
        retrieval(pictures, texts, [CAT, LAKE, DOG, DOG], among=3) == 2 / 3
    )  # of one group; the fourth is left out


def test_retrieval_takes_all_when_there_are_fewer_than_a_group():
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(5, 9)))
    assert retrieval(x, x, [CAT, DOG, LAKE, CAT, DOG]) == 1
