r"""Zero-shot classification and retrieval, with embeddings that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ldm.lab.evaluate import understanding
from ldm.lab.evaluate.understanding import (
    embed_captions,
    embed_images,
    retrieval,
    scene_captions,
    scene_directions,
    zero_shot,
)
from ldm.postcards import Animal, Garment, Scene, Thing
from tests.small import TOKENIZER, small_clip


def before_a_wall(kind, fur="grey"):
    return Scene(wall="red", animals=(Animal(kind, fur, (Garment("hat", "green"),), "portrait", 1),))


CAT, DOG, BEAR = map(before_a_wall, ("cat", "dog", "bear"))
LAKE = Scene("lake", "hills", "night", "clear", "left", things=(Thing("boat", "red", 0),))


@pytest.fixture
def clip():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return small_clip()


def test_scene_captions_are_of_that_scene():
    words = ("boat", "ship", "bateau", "navire")
    assert all(any(word in c.casefold() for word in words) for c in scene_captions(LAKE, 20))
    assert scene_captions(CAT, 9) == scene_captions(CAT, 12)[:9]


def test_embedding_in_batches_is_embedding_one_by_one(clip):
    pixels = torch.rand(5, 3, 24, 24) * 2 - 1
    together = embed_images(clip, pixels, batch=2)
    torch.testing.assert_close(together, torch.cat([embed_images(clip, p[None]) for p in pixels]))
    texts = ["red", "dog", "red dog"]
    alone = torch.cat([embed_captions(clip, TOKENIZER, [text]) for text in texts])
    torch.testing.assert_close(embed_captions(clip, TOKENIZER, texts, batch=2), alone)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(5))


def test_a_scene_is_the_mean_direction_of_its_captions(clip, monkeypatch):
    axes = torch.eye(8)

    def embed(clip, tokenizer, texts):
        r"""Around an axis of their own, scattered along that of the next scene; the scatter averages out."""
        k = torch.tensor([int(text) for text in texts])
        scatter = torch.tensor([3.0, -3.0]).repeat(len(texts) // 2)[:, None] * axes[(k + 1) % 3]
        return torch.nn.functional.normalize(axes[k] + scatter, dim=1)

    monkeypatch.setattr(understanding, "embed_captions", embed)
    scenes = [CAT, DOG, LAKE]
    monkeypatch.setattr(understanding, "scene_captions", lambda scene, n: [str(scenes.index(scene))] * n)
    torch.testing.assert_close(scene_directions(clip, TOKENIZER, scenes, 4), axes[:3])


def test_zero_shot_asks_of_each_scene_what_makes_sense():
    candidates = [DOG, CAT, LAKE, replace(LAKE, place="sea")]
    dog, cat, lake, sea = axes = torch.eye(4)
    pictures = torch.stack([dog, 0.6 * sea + 0.8 * lake, 0.8 * dog + 0.6 * cat])
    # The cat is taken for a dog, which is wrong in one point; the lake is a lake.
    shares = zero_shot(pictures, [DOG, LAKE, CAT], axes, 5.0, candidates)
    asked = ("place", "relief", "time", "weather", "style", "wall", "animals", "first fur",
             "waterfall", "boat", "house", "balloon", "flower")  # fmt: skip
    assert shares == dict.fromkeys(asked, 1.0) | {"first animal": 1 / 2}


def test_zero_shot_adds_up_what_the_question_leaves_open():
    two = [before_a_wall("dog", "brown"), before_a_wall("dog", "black")]
    candidates = [*two, CAT]
    picture = torch.tensor([[0.5, 0.5, 0.6]])  # a cat is the likeliest scene, a dog the likelier animal
    assert zero_shot(picture, [two[0]], torch.eye(3), 1.0, candidates)["first animal"] == 1
    assert zero_shot(picture, [two[0]], torch.eye(3), 20.0, candidates)["first animal"] == 0


def test_retrieval_by_hand():
    texts = torch.eye(4)
    pictures = texts[[0, 1, 3, 2]]  # the last two find each other's caption
    assert retrieval(pictures, texts, [CAT, LAKE, DOG, BEAR], among=4) == 1 / 2
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
