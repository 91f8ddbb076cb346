r"""Where words are read: boxes by hand, attention that is known, and the choice of heads."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.checkpoints.folder import read_config
from ldm.config import Head
from ldm.images.pixels import to_pixels
from ldm.lab.evaluate import attention_maps
from ldm.lab.evaluate.attention_maps import (
    LARGEST,
    Masses,
    NamedThing,
    choose_heads,
    examples,
    measure,
    named_things,
    ranked_heads,
    store_heads,
    visited_levels,
    with_other_words,
)
from ldm.loading import load
from ldm.postcards import draw, names
from ldm.postcards.canvas import Box
from ldm.text.bpe import learn_merges
from ldm.text.tokenizer import Tokenizer
from ldm.train.tokenizer import postcard_captions
from tests.small import write_small_model

HAT = Box("hat", 0.25, 0.0, 0.75, 0.375)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("attention") / "small")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(learn_merges(postcard_captions(300)), context_length=40)


def words_of(tokenizer, text, thing):
    pieces = ["", *tokenizer.tokens(text)]
    return "".join(pieces[i] for i in thing.positions).replace("</w>", " ").split()


def swapped(things):
    return with_other_words(attention_maps.Example(Image.new("RGB", (8, 8)), "", tuple(things))).things


def test_a_word_that_stands_alone_has_no_others_to_compare_with(tokenizer):
    [thing] = named_things(tokenizer, "hat", "en", [HAT])
    assert thing.others == () and swapped([thing]) == ()


def test_words_are_matched_with_the_only_box_of_their_kind(tokenizer):
    boat, balloon, second = (
        Box("boat", 0.1, 0.6, 0.3, 0.8),
        Box("balloon", 0.6, 0.1, 0.8, 0.4),
        Box("boat", 0.6, 0.6, 0.8, 0.8),
    )
    text = "a red ship and a hot air balloon by the lake"
    found = named_things(tokenizer, text, "en", [Box("lake", 0, 0.5, 1, 1), boat, balloon, HAT])
    assert [thing.box.word for thing in found] == [
        "boat",
        "balloon",
    ]  # nobody wears the hat, a lake is no object
    assert [words_of(tokenizer, text, thing) for thing in found] == [["ship"], ["hot", "air", "balloon"]]
    rest = [words_of(tokenizer, text, with_others) for with_others in swapped(found)]
    assert rest[0] == text.replace("ship ", "").split()
    assert rest[1] == text.replace("hot air balloon ", "").split()
    assert [t.box.word for t in named_things(tokenizer, text, "en", [boat, balloon, second])] == ["balloon"]
    assert named_things(tokenizer, "a boat beside a boat", "en", [boat]) == []
    large = Box("boat", 0.0, 0.0, 0.6, 0.6)
    assert LARGEST < 0.6 * 0.6 and named_things(tokenizer, text, "en", [large]) == []


def test_examples_are_drawings_with_a_named_thing_and_always_the_same(tokenizer):
    some = list(examples(tokenizer, 6, 32))
    assert some[:4] == list(examples(tokenizer, 4, 32)) and all(e.image.size == (32, 32) for e in some)
    for example in some:
        for thing in example.things:
            spelled = " ".join(words_of(tokenizer, example.caption, thing))
            allowed = names(thing.box.word, "en") | names(thing.box.word, "fr")
            assert spelled in {" ".join(tokenizer.words(name)) for name in allowed}
    assert list(examples(tokenizer, 4, 32, series=1)) != some[:4]


A, B, C = Head("mid", 0), Head("mid", 1), Head("up", 0)
# Two words with boxes of a tenth and three tenths of the image. A looks into both boxes with half of its weight, B is
# at chance, C, with ten times as much weight, looks into the first box alone.
MASSES = Masses(
    [A, B, C],
    inside=torch.tensor([[0.5, 0.1, 10.0], [0.5, 0.3, 0.0]]),
    total=torch.tensor([[1.0, 1.0, 10.0], [1.0, 1.0, 10.0]]),
    area=torch.tensor([0.1, 0.3]),
)


def test_shares_by_hand():
    assert MASSES.chance == pytest.approx(0.2)
    assert MASSES.share([A]) == pytest.approx(0.5) == MASSES.share([C])
    assert MASSES.share([B]) == pytest.approx(0.2)
    assert MASSES.share([A, B]) == pytest.approx((0.6 / 2 + 0.8 / 2) / 2)
    assert MASSES.share() == pytest.approx((10.6 / 12 + 0.8 / 12) / 2)


def test_heads_are_ranked_by_their_ratio_to_chance_and_as_many_chosen_as_make_the_best_map():
    assert [(head, pytest.approx(ratio)) for head, ratio in ranked_heads(MASSES)] == [
        (A, 2.5),
        (C, 2.5),
        (B, 1.0),
    ]
    assert choose_heads(MASSES) == (A,)
    # Two heads, each of which looks at one of the words alone and barely at the other, make a better map together.
    inside = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    halves = Masses([A, B], inside, torch.tensor([[1.0, 0.1], [0.1, 1.0]]), torch.tensor([0.1, 0.1]))
    assert halves.share([A]) == pytest.approx(0.5) and halves.share([A, B]) == pytest.approx(1 / 1.1)
    assert choose_heads(halves) == (A, B)


def test_attention_that_is_the_same_everywhere_is_at_chance(folder):
    r"""Queries of zero weigh all tokens alike at every pixel, at any level and for any box."""
    model = load(folder, device="cpu")
    for name, parameter in model.unet.named_parameters():
        if "cross_attn.q" in name:
            torch.nn.init.zeros_(parameter)
    some = list(examples(model.tokenizer, 5, 16))
    masses = measure(model, some, batch=2)
    assert len(masses.heads) == 8 and len(masses.area) == sum(len(e.things) for e in some)
    assert masses.share() == pytest.approx(masses.chance, rel=1e-4)
    for head in masses.heads:
        assert masses.share([head]) == pytest.approx(masses.chance, rel=1e-4)


def test_attention_to_bright_pixels_lands_where_they_are(folder, monkeypatch):
    r"""Weights that are put in place of the real ones: all of a word's attention in one pixel of the layer."""
    model = load(folder, device="cpu")
    thing = NamedThing((2,), (1,), Box("hat", 0.0, 0.0, 0.5, 0.5))
    [example] = examples(model.tokenizer, 1, 16)
    example = attention_maps.Example(example.image, "red dog", (thing,))

    class Watching:
        def __init__(self, unet, see):
            self.see = see

        def __enter__(self):
            for layer, count in attention_maps.head_counts(model.unet).items():
                weights = torch.zeros(1, count, 4, 32)
                weights[0, 0, 0, 2] = 1.0  # the first head: in the box
                weights[0, 1, 3, 2] = 0.5  # the second one: in the opposite corner
                self.see(layer, (2, 2), weights)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(attention_maps, "watch_attention", Watching)
    masses = measure(model, [example])
    assert [masses.share([head]) for head in masses.heads] == [1.0 - head.head for head in masses.heads]
    assert masses.share() == pytest.approx(2 / 3) and masses.chance == 0.25


def test_the_unet_sees_every_drawing_noised_to_every_level_with_its_own_caption(folder, monkeypatch):
    model, seen = load(folder, device="cpu"), []
    predict = type(model).predict

    def note(self, x, level, cond):
        seen.append((x, level, cond.context))
        return predict(self, x, level, cond)

    monkeypatch.setattr(type(model), "predict", note)
    some = list(examples(model.tokenizer, 2, 16))
    measure(model, some)
    assert [level for _, level, _ in seen] == visited_levels(model)
    latents = model.encode_image(to_pixels([example.image for example in some]))
    noise = [(x - level.alpha * latents) / level.sigma for x, level, _ in seen]
    for one, (_, _, context) in zip(noise, seen, strict=True):
        torch.testing.assert_close(one, noise[0], rtol=1e-3, atol=1e-3)  # the same noise at each level
        assert 0.7 < one.std() < 1.3
        torch.testing.assert_close(context, model.encode_text([e.caption for e in some]).context)


def test_levels_are_the_middles_of_equal_parts_of_what_sampling_visits(folder):
    model = load(folder, device="cpu")
    visited = model.levels("ddim", 8)
    model.default_steps = lambda sampler: 8
    assert visited_levels(model, 4) == [visited[1], visited[3], visited[5], visited[7]]


def test_the_choice_is_written_to_the_models_config_and_nothing_else_changes(tmp_path):
    mine = write_small_model(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in mine.glob("*.safetensors")}
    chosen, ranking = store_heads(mine, count=3)
    assert read_config(mine).map_heads == chosen and {head for head, _ in ranking} >= set(chosen)
    assert len(ranking) == 8 and ranking == sorted(ranking, key=lambda pair: -pair[1])
    assert {path.name: path.read_bytes() for path in mine.glob("*.safetensors")} == before
    assert load(mine, device="cpu").config.map_heads == chosen


def test_boxes_are_where_the_drawings_are():
    r"""The box of a hat is where the drawing changes when the hat is taken off."""
    from dataclasses import replace

    from ldm.postcards import Animal, Garment, Scene, draw_with_boxes

    dressed = Scene(wall="blue", animals=(Animal("dog", "brown", (Garment("hat", "red"),), "sitting", 1),))
    bare = replace(dressed, animals=(replace(dressed.animals[0], wears=()),))
    one, boxes = draw_with_boxes(dressed, np.random.default_rng(5), 64)
    other = draw(bare, np.random.default_rng(5), 64)
    changed = torch.from_numpy(np.abs(np.asarray(one, int) - np.asarray(other, int)).sum(-1) > 60).float()
    [box] = [box for box in boxes if box.word == "hat"]
    assert (
        changed.sum() > 10 and (changed * torch.from_numpy(box.coverage(64, 64))).sum() / changed.sum() > 0.95
    )
