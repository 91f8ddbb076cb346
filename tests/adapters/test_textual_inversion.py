r"""Learned words in a text encoder: against rows put in by hand, in each way to name and to weigh them."""

import pytest
import torch

from ldm.adapters.textual_inversion import LearnedWords, with_rows
from ldm.checkpoints.key_map import text_rows
from ldm.text.encoder import TextEncoder
from ldm.text.joint import encode_jointly
from tests.golden import sdxl
from tests.golden.compare import assert_same, filled, golden
from tests.small import TOKENIZER


@pytest.fixture(scope="module")
def pair():
    r"""SDXL's encoders, each with the rows of two words: one of three vectors, and one of one."""
    expected, made = golden("words"), []
    for config, rows, pad in ((sdxl.TEXT, "rows", 517), (sdxl.TEXT_2, "rows_2", 0)):
        encoder = filled(TextEncoder(config), text_rows(config))
        rows = expected[rows]
        table = with_rows(encoder.token_embedding, [rows[:3], rows[3:]])
        assert table.rows.dtype == torch.float64
        encoder.token_embedding = table
        made.append((encoder, pad))
    return made


WORDS = TOKENIZER.with_words([(("<toy>", "thing"), 3), (("ink",), 1)])


@pytest.mark.parametrize("prompt", ["red <toy> dog ink", "red thing dog embedding:INK"])
def test_rows_in_place_of_words_give_the_context_and_the_pooled_vector_of_the_reference(pair, prompt):
    context, pooled = encode_jointly(pair, WORDS, [prompt])
    assert_same(context, golden("words")["context"])
    assert_same(pooled, golden("words")["pooled"])


def test_a_weight_multiplies_the_states_of_all_rows(pair):
    z, _ = encode_jointly(pair[:1], WORDS, ["red <toy> dog ink"])
    weights = torch.ones(1, 32, 1, dtype=z.dtype)
    weights[0, 2:5] = 1.2
    by_hand = weights * z * (z.mean() / (weights * z).mean())
    assert_same(encode_jointly(pair[:1], WORDS, ["red (<toy>:1.2) dog ink"])[0], by_hand)


def test_the_table_is_the_same_parameter_and_comes_back_as_it_was():
    table = torch.nn.Embedding(5, 2)
    more = with_rows(table, [torch.ones(1, 2), torch.zeros(2, 2)])
    assert more.weight is table.weight and list(more.state_dict()) == ["weight"]
    assert more(torch.tensor([[0, 5, 7]])).tolist() == [[table.weight[0].tolist(), [1, 1], [0, 0]]]
    plain = with_rows(more, [])
    assert not isinstance(plain, LearnedWords) and plain.weight is table.weight
    assert with_rows(table, []) is table


def test_the_rows_take_the_tables_dtype():
    table = torch.nn.Embedding(5, 2, dtype=torch.bfloat16)
    assert with_rows(table, [torch.ones(1, 2)])(torch.tensor([[5]])).dtype == torch.bfloat16
