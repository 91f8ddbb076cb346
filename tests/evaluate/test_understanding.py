r"""Zero-shot classification and retrieval, with embeddings that are known."""

import numpy as np
import pytest
import torch

from ldm.evaluate import understanding
from ldm.evaluate.judge import QUESTIONS
from ldm.evaluate.understanding import (
    class_captions,
    class_directions,
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


def test_a_class_is_the_mean_direction_of_its_captions(clip, monkeypatch):
    axes = torch.eye(8)

    def embed(clip, tokenizer, texts):
        r"""Around an axis of their own, scattered along the axis of another class; the scatter averages out."""
        k = QUESTIONS["animal"].index(texts[0])
        scatter = torch.tensor([3.0, -3.0]).repeat(len(texts) // 2)[:, None] * axes[(k + 1) % 4]
        return torch.nn.functional.normalize(axes[k] + scatter, dim=1)

    monkeypatch.setattr(understanding, "embed_captions", embed)
    monkeypatch.setattr(understanding, "class_captions", lambda question, choice, count: [choice] * count)
    torch.testing.assert_close(class_directions(clip, TOKENIZER, "animal", 4), axes[:4])


def test_zero_shot_asks_of_each_scene_what_makes_sense():
    classes = {"animal": torch.eye(6)[:4], "kind": torch.eye(6)[4:], "place": torch.eye(6)[:5]}
    dog, cat, landscape = torch.eye(6)[[0, 1, 4]]
    pictures = torch.stack([dog, 0.9 * landscape + 0.5 * dog, dog + 0.1 * cat - landscape])
    # Animal, asked of two: the cat is taken for a dog. Kind, asked of all: the dog is a tie, which goes to "landscape".
    # Place, asked of one: the lake is taken for a meadow.
    shares = zero_shot(pictures, [DOG, LAKE, CAT], classes)
    assert shares == {"animal": 1 / 2, "kind": 2 / 3, "place": 0}


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
    x = torch.nn.functional.normalize(torch.tensor(rng.normal(size=(5, 9))), dim=1)
    assert retrieval(x, x, [CAT, DOG, LAKE, CAT, DOG]) == 1
