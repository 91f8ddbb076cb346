r"""Learned words in a text: which names are found, which ids they take, and where the pooled vector is taken."""

import pytest

from ldm.adapters.textual_inversion import with_rows
from ldm.checkpoints.key_map import text_rows
from ldm.errors import LdmError
from ldm.lab.trace.recorder import prompt_words
from ldm.text.encoder import TextEncoder
from ldm.text.joint import encode_jointly
from ldm.text.prompt import weighted_tokens
from ldm.text.syntax import foreign_syntax
from ldm.text.tokenizer import Tokenizer
from ldm.text.unknown import unknown_words
from tests.golden import sdxl
from tests.golden.compare import assert_same, filled, golden
from tests.small import TOKENIZER


def learned(*words: str, count: int = 3) -> Tokenizer:
    return TOKENIZER.with_words([(words, count)])


def test_a_learned_word_takes_as_many_ids_as_it_has_vectors_counted_on_from_the_vocabulary():
    tokenizer, v = learned("<Toy>"), TOKENIZER.vocab_size
    red, dog = TOKENIZER.encode("red"), TOKENIZER.encode("dog")
    assert tokenizer.encode("red <toy> dog") == [*red, v, v + 1, v + 2, *dog]
    assert tokenizer.tokens("<TOY>") == ["<Toy>", "<Toy>_1", "<Toy>_2</w>"]
    assert tokenizer.decode(tokenizer.encode("red <toy>")) == "red <Toy> <Toy>_1 <Toy>_2"
    assert TOKENIZER.learned.ids == {} and max(TOKENIZER.encode("red <toy> dog")) < v  # as it was


@pytest.mark.parametrize(
    "text", ["ink", "INK", "embedding:ink", "(ink:1.3)", "[Embedding:Ink]", "ink, a dog"]
)
def test_the_word_is_found_in_each_of_these(text):
    ids = [id_ for id_, _ in weighted_tokens(learned("ink"), text)]
    assert ids[:3] == [TOKENIZER.vocab_size + i for i in range(3)]


@pytest.mark.parametrize("text", ["inked", "pink", "in k", "ink_2", ""])
def test_and_in_none_of_these(text):
    assert learned("ink").encode(text) == TOKENIZER.encode(text)


def test_of_two_names_the_longer_is_found_and_a_hyphen_belongs_to_it():
    tokenizer, v = TOKENIZER.with_words([(("bad",), 1), (("bad-hands", "x"), 2)]), TOKENIZER.vocab_size
    assert tokenizer.encode("bad-hands") == [v + 1, v + 2] == tokenizer.encode("x")
    assert tokenizer.encode("bad hands")[0] == v


def test_a_trace_shows_it_as_one_word_with_the_places_of_its_vectors():
    words = [(word.text, word.positions) for word in prompt_words(learned("ink"), "red (ink:1.2) dog")]
    assert words == [("red", (1,)), ("embedding:ink", (2, 3, 4)), ("dog", (5,))]


def test_a_name_that_two_words_have_is_refused():
    with pytest.raises(LdmError, match="two embeddings for the word 'a'"):
        TOKENIZER.with_words([(("a",), 1), (("b", "A"), 1)])


def test_a_weight_goes_to_all_vectors_of_the_word():
    assert [weight for _, weight in weighted_tokens(learned("ink"), "red (ink:1.2)")] == [1, 1.2, 1.2, 1.2]


def test_a_learned_word_is_neither_unknown_nor_foreign_syntax():
    assert unknown_words(learned("ink"), "unicorn ink") == ["unicorn"]
    rest = learned("ink").learned.without("embedding:ink (embedding:other:1.2)")
    assert foreign_syntax(rest) == ["embedding:other:1.2"]


def test_the_pooled_vector_is_that_of_the_end_and_not_of_a_learned_word_whose_id_is_larger():
    expected, encoder = golden("words"), filled(TextEncoder(sdxl.TEXT_2), text_rows(sdxl.TEXT_2))
    encoder.token_embedding = with_rows(encoder.token_embedding, [expected["rows_2"]])
    words = TOKENIZER.with_words([(("toy",), 3), (("ink",), 1)])
    assert_same(encode_jointly([(encoder, 0)], words, ["red toy dog ink"])[1], expected["pooled"])
