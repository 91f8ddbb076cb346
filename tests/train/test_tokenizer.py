r"""Stage 1: the vocabulary of the captions."""

from dataclasses import replace

import numpy as np
import pytest

from ldm.checkpoints.folder import read_config, write_config
from ldm.config import TINY
from ldm.postcards import caption, sample_scene
from ldm.text.tokenizer import Tokenizer
from ldm.train.tokenizer import postcard_captions, train_tokenizer

COUNT = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer(TINY, folder, postcard_captions(COUNT, seed=6))
    return folder


def captions(seed: int, count: int) -> list[str]:
    generators = [np.random.default_rng([seed, i]) for i in range(count)]
    return [caption(sample_scene(rng), rng, mistakes=False) for rng in generators]


def test_every_word_seen_at_least_twice_is_one_piece(folder):
    tokenizer = Tokenizer.load(folder / "tokenizer")
    words = [word for text in captions(6, COUNT) for word in tokenizer.words(text)]
    common = {word for word in words if words.count(word) > 1}
    assert {"a", "un"} < common and len(common) > 100
    assert [word for word in common if len(tokenizer.encode(word)) != 1] == []


def test_a_word_never_seen_is_spelled(folder):
    tokenizer = Tokenizer.load(folder / "tokenizer")
    assert len(tokenizer.encode("zyzzyva")) > 1
    assert tokenizer.decode(tokenizer.encode("zyzzyva")) == "zyzzyva"


def test_the_config_holds_the_tokenizers_sizes_and_else_what_it_held(folder):
    config, tokenizer = read_config(folder), Tokenizer.load(folder / "tokenizer")
    assert config.text.vocab_size == tokenizer.vocab_size != TINY.text.vocab_size
    assert tokenizer.context_length == config.text.context_length and tokenizer.pad == config.text.pad
    assert config == replace(TINY, text=replace(TINY.text, vocab_size=tokenizer.vocab_size))


def test_no_caption_is_cut(folder):
    tokenizer = Tokenizer.load(folder / "tokenizer")
    longest = max(len(tokenizer.encode(text)) for text in captions(6, COUNT))
    assert longest <= tokenizer.context_length - 2


def test_the_same_seed_learns_the_same_merges_and_another_seed_others(folder, tmp_path):
    merges = (folder / "tokenizer/merges.txt").read_text()
    for seed, name in ((6, "again"), (7, "other")):
        returned = train_tokenizer(TINY, tmp_path / name, postcard_captions(COUNT, seed))
        assert returned == read_config(tmp_path / name)
    assert (tmp_path / "again/tokenizer/merges.txt").read_text() == merges
    assert (tmp_path / "other/tokenizer/merges.txt").read_text() != merges


def test_learning_it_again_keeps_what_later_stages_wrote(tmp_path):
    train_tokenizer(TINY, tmp_path, postcard_captions(30))
    trained = read_config(tmp_path)
    write_config(tmp_path, replace(trained, vae=replace(trained.vae, scale=0.5)))
    again = train_tokenizer(TINY, tmp_path, postcard_captions(60))
    assert again.vae.scale == read_config(tmp_path).vae.scale == 0.5
    assert again.text.vocab_size > trained.text.vocab_size


def test_captions_that_must_be_cut_are_counted(tmp_path, capsys):
    r"""Twenty different words seen twice are twenty tokens; 38 are left of 40 positions."""
    words = [f"w{chr(97 + i)}" for i in range(20)]
    train_tokenizer(TINY, tmp_path, [" ".join(words), " ".join(words + words)])
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("longest caption 40")
    assert told[1] == "tokenizer: 1 of 2 captions are longer than 38 tokens and are truncated"
