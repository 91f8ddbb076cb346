r"""Words that a model has never read."""

from pathlib import Path

from ldm.postcards import DEMO_PROMPTS
from ldm.text.bpe import learn_merges
from ldm.text.tokenizer import Tokenizer
from ldm.text.unknown import unknown_words

MERGES = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>")]
TINY = Path(__file__).resolve().parents[2] / "weights" / "tiny" / "tokenizer"


def test_a_word_of_several_tokens_is_unknown_and_named_once():
    tokenizer = Tokenizer(MERGES)
    assert unknown_words(tokenizer, "A red  dog, a RED unicorn; unicorn dogs!") == ["unicorn", "dogs"]
    assert unknown_words(tokenizer, "") == unknown_words(tokenizer, "((red)) !? :1.3") == []


def test_a_word_that_occurs_once_in_the_captions_is_unknown_and_one_that_occurs_twice_is_not():
    tokenizer = Tokenizer(learn_merges({"unicorn": 1, "dog": 2}))
    assert unknown_words(tokenizer, "a unicorn, a dog") == ["unicorn"]


def test_what_the_model_does_not_read_any_more_is_not_looked_at():
    tokenizer = Tokenizer(MERGES, context_length=7)  # with bos and eos, there is room for five tokens
    assert unknown_words(tokenizer, "red dog red cat") == ["cat"]  # its first two tokens are read
    assert unknown_words(tokenizer, "red dog red dog red cat") == []


def test_the_shipped_model_knows_its_own_world_and_names_what_is_not_in_it():
    tokenizer = Tokenizer.load(TINY)
    for prompt in DEMO_PROMPTS:
        assert unknown_words(tokenizer, prompt) == []
    assert unknown_words(tokenizer, "a unicorn with glasses in a spaceship") == ["unicorn", "spaceship"]


def test_clips_own_vocabulary_names_nothing():
    tokenizer = Tokenizer.clip()
    assert len(tokenizer.encode("gastropodology")) > 1
    assert unknown_words(tokenizer, "gastropodology") == []
