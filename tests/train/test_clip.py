r"""Stage 2: CLIP learns to match images with captions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ldm.checkpoints.folder import read_clip, read_tensors, write_config
from ldm.errors import LdmError
from ldm.text.bpe import learn_merges
from ldm.text.clip import CLIP, contrastive_loss
from ldm.text.image import standardise
from ldm.text.tokenizer import Tokenizer
from ldm.train import clip as stage
from ldm.train.clip import clip_loss, retrieval_accuracy, save_similarity, train_clip
from ldm.train.data import CaptionedImages
from ldm.train.loop import Recipe, train
from ldm.train.tokenizer import postcard_captions
from tests.small import CONFIG, TOKENIZER


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    r"""A tokenizer that knows the words of captions, so that most of them are shorter than the context."""
    return Tokenizer(learn_merges(postcard_captions(500)), context_length=32)


def new_clip(vocab_size: int) -> CLIP:
    text = replace(CONFIG.text, vocab_size=vocab_size)
    assert CONFIG.image is not None and CONFIG.embedding_width is not None
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return CLIP(text, CONFIG.image, CONFIG.embedding_width)


@torch.no_grad()
def test_trimmed_padding_changes_nothing_for_nothing_looks_ahead(tokenizer, images):
    clip, seen = new_clip(tokenizer.vocab_size), []
    clip.text.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    loss = clip_loss(clip, tokenizer, images(8), 6, np.random.default_rng(4))

    rng = np.random.default_rng(4)
    indices = rng.integers(8, size=6)
    captions = images(8).captions(indices, rng)
    ids = tokenizer(captions + images(8).wrong_captions(indices, rng))
    embeddings = clip.embed_image(standardise(images(8).batch(indices)))
    texts = clip.embed_text(ids)
    full = contrastive_loss(embeddings, texts[:6], clip.logit_scale, texts[6:])
    torch.testing.assert_close(loss, full, rtol=1e-6, atol=0)

    trimmed, untrimmed = seen
    length = trimmed.shape[1]
    assert length < untrimmed.shape[1] == 32 and torch.equal(trimmed, untrimmed[:, :length])
    # The cut is right after the end token of the longest text.
    ends = (trimmed == tokenizer.eos).int().argmax(dim=-1)
    assert (trimmed == tokenizer.eos).any(dim=-1).all() and ends.max() == length - 1


class Knowing(CLIP):
    r"""Image i of a batch is most like text `answer(i)`."""

    def __init__(self, answer):
        nn.Module.__init__(self)
        self.answer, self.image_size = answer, 16

    def similarity(self, pixels, ids):
        return torch.eye(len(ids))[[self.answer(i) % len(ids) for i in range(len(pixels))]]


def test_retrieval_counts_the_images_that_find_their_caption(images):
    # Sixteen images of different scenes, in four batches of four.
    scenes, cards = [], images(40)
    for i, scene in enumerate(cards.scenes):
        if scene not in [cards.scenes[j] for j in scenes]:
            scenes.append(i)
    chosen = scenes[:16]
    different = CaptionedImages([cards.scenes[i] for i in chosen], cards.pixels[chosen])
    for answer, expected in ((lambda i: i, 1.0), (lambda i: i + 1, 0.0), (lambda i: 0, 0.25)):
        assert retrieval_accuracy(Knowing(answer), TOKENIZER, different, batch=4, batches=4) == expected


def test_a_caption_that_also_describes_the_image_is_no_miss(images):
    two = images(2)
    twins = CaptionedImages([two.scenes[0]] * 2, two.pixels)
    assert retrieval_accuracy(Knowing(lambda i: i + 1), TOKENIZER, twins, batch=2, batches=1) == 1.0


def test_retrieval_makes_do_with_few_images(images):
    for count in (1, 5):
        assert retrieval_accuracy(Knowing(lambda i: i), TOKENIZER, images(count)) == 1.0


class Reading(CLIP):
    r"""Prefers the text of a pair that `likes` says, true or wrong, or the other one if the images' `sign` is -1."""

    def __init__(self, likes, sign=1.0):
        nn.Module.__init__(self)
        self.likes, self.sign, self.image_size, self.read = likes, sign, 16, []

    def embed_image(self, pixels):
        return torch.full((len(pixels), 1), self.sign)

    def embed_text(self, ids):
        self.read.append(len(ids))
        return torch.tensor([[self.likes(i, len(self.read) % 2 == 0)] for i in range(len(ids))])


def test_preference_is_how_often_the_true_caption_beats_a_nearly_right_one(images):
    three_of_four = Reading(
        lambda i, wrong: 0.5 if wrong else (0.9 if i % 4 else 0.5)
    )  # a tie is no preference
    assert stage.preference(three_of_four, TOKENIZER, images(40, repeat=2), count=72) == 0.75
    assert three_of_four.read == [64, 64, 8, 8]
    for sign, expected in ((1.0, 0.0), (-1.0, 1.0)):
        reading = Reading(lambda i, wrong: float(wrong), sign)
        assert stage.preference(reading, TOKENIZER, images(40)) == expected


def test_preference_compares_the_full_caption_with_a_wrong_one_of_the_same_image(images, monkeypatch):
    texts, four, encode = [], images(4), Tokenizer.__call__
    monkeypatch.setattr(Tokenizer, "__call__", lambda self, some: texts.append(some) or encode(self, some))
    stage.preference(Reading(lambda i, wrong: 1.0), TOKENIZER, four)
    rng, indices = np.random.default_rng([2, 0]), np.arange(4)
    assert texts[0] == four.captions(indices, rng, partial=False)
    assert texts[1] == four.wrong_captions(indices, rng, mistakes=False)


def test_the_captions_that_are_compared_have_no_typing_mistakes(images, monkeypatch):
    r"""Else a nearly right caption could be told from the true one by its spelling."""
    asked = []
    monkeypatch.setattr(
        "ldm.train.data.wrong_caption", lambda scene, rng, mistakes: asked.append(mistakes) or "a dog"
    )
    stage.preference(Reading(lambda i, wrong: 1.0), TOKENIZER, images(4))
    assert asked == [False] * 4


def test_the_similarity_grid_does_not_change_the_random_numbers(tokenizer, images, tmp_path):
    before = torch.get_rng_state()
    for count in (8, 3):
        save_similarity(new_clip(tokenizer.vocab_size), tokenizer, images(count), tmp_path / f"{count}.png")
        with Image.open(tmp_path / f"{count}.png") as image:
            assert image.format == "PNG" and np.asarray(image).std() > 20
    assert torch.equal(torch.get_rng_state(), before)


def test_eight_images_learn_to_find_their_captions(tokenizer, images, tmp_path):
    # The same batch at every step, to overfit on purpose.
    clip, cards = new_clip(tokenizer.vocab_size), images(40)
    rng = np.random.default_rng(1)
    indices = rng.integers(40, size=8)
    pixels, ids = standardise(cards.batch(indices)), tokenizer(cards.captions(indices, rng))
    assert len(set(indices)) == 8

    def hits(clip: CLIP) -> int:
        return (clip.similarity(pixels, ids).argmax(dim=-1) == torch.arange(8)).sum().item()

    losses = []

    def loss_at(step: int) -> torch.Tensor:
        losses.append(clip_loss(clip, tokenizer, cards, 8, np.random.default_rng(1)))
        return losses[-1]

    before = hits(clip)
    average = train(clip, loss_at, Recipe(steps=60, batch=8, lr=1e-2, warmup=5, ema=0.9), tmp_path)
    assert before <= 4 and isinstance(average, CLIP) and hits(average) >= 7
    assert losses[-1] < 0.5 < 1.5 < losses[0]


@pytest.mark.long
def test_the_stage_writes_the_average_and_measures_it(tmp_path, images, monkeypatch):
    write_config(tmp_path, CONFIG)
    TOKENIZER.save(tmp_path / "tokenizer")
    measured, preferred = [], []

    def measure(clip: CLIP, tokenizer: Tokenizer, cards: CaptionedImages) -> float:
        measured.append((clip.state_dict(), cards))
        return len(measured) / 4

    monkeypatch.setattr(stage, "retrieval_accuracy", measure)
    monkeypatch.setattr(stage, "preference", lambda *given: preferred.append(given[2]) or 0.125)
    seen, held_out = images(40), images(8, "held_out")
    recipe = Recipe(steps=2, batch=4, lr=1e-3, warmup=1)
    reached = train_clip(tmp_path, tmp_path / "run", seen, held_out, recipe, seed=5, resume=False)
    assert reached == {
        "retrieval among 40, seen combinations": 0.25,
        "retrieval among 8, held-out combinations": 0.5,
        "preferred to a nearly right caption, seen combinations": 0.125,
        "preferred to a nearly right caption, held-out combinations": 0.125,
    }
    assert [cards for _, cards in measured] == [seen, held_out] == preferred
    clip, tokenizer = read_clip(tmp_path)
    assert tokenizer.vocab == TOKENIZER.vocab
    saved = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["average"]
    for name, tensor in clip.state_dict().items():
        assert torch.equal(measured[0][0][name], saved[name]), name
        assert torch.equal(tensor, saved[name].half().float()), name
    # The same seed learns the same weights, another seed others.
    for seed, same in ((5, True), (6, False)):
        train_clip(tmp_path, tmp_path / f"again-{seed}", seen, held_out, recipe, seed, resume=False)
        again = read_tensors(tmp_path / "clip.safetensors")
        equal = [torch.equal(tensor, clip.state_dict()[name]) for name, tensor in again.items()]
        assert all(equal) if same else not all(equal)


def test_a_frozen_text_encoder_stays_as_it_is_and_all_else_learns(tmp_path, images):
    write_config(tmp_path, CONFIG)
    TOKENIZER.save(tmp_path / "tokenizer")
    recipe, seen = Recipe(steps=2, batch=4, lr=1e-2, warmup=1), images(8)
    options = {"seed": 5, "resume": False}
    train_clip(tmp_path, tmp_path / "first", seen, seen, recipe, **options)
    before = read_clip(tmp_path)[0].state_dict()
    text = (tmp_path / "text.safetensors").read_bytes()
    train_clip(tmp_path, tmp_path / "more", seen, seen, recipe, **options, freeze_text=True)
    assert (tmp_path / "text.safetensors").read_bytes() == text
    after = read_clip(tmp_path)[0].state_dict()
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"image", "image_projection", "text_projection", "logit_scale"}
    # A finished run is resumed without a step.
    train_clip(tmp_path, tmp_path / "more", seen, seen, recipe, seed=5, resume=True, freeze_text=True)
    again = read_clip(tmp_path)[0].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in again.items())


@pytest.mark.parametrize("lost", ["image", "embedding_width"])
def test_a_config_without_an_image_encoder_is_an_error(tmp_path, images, lost):
    write_config(tmp_path, replace(CONFIG, **{lost: None}))
    with pytest.raises(LdmError, match="no image encoder"):
        train_clip(tmp_path, tmp_path / "run", images(8), images(8), Recipe(1, 1, 1e-3), 0, False)
