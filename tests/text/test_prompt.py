r"""Contexts of weighted and of long prompts."""

import warnings

import pytest
import torch

from ldm.config import TextConfig
from ldm.errors import LdmError
from ldm.text.encoder import TextEncoder
from ldm.text.prompt import encode_prompts, lost_words, weighted_states, weighted_tokens
from ldm.text.tokenizer import Tokenizer

MERGES = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>"), ("c", "a"), ("ca", "t</w>")]
RED, DOG, CAT = (Tokenizer(MERGES).vocab[f"{word}</w>"] for word in ("red", "dog", "cat"))
TIGHT = {"rtol": 0, "atol": 1e-12}


def reader(randomise, pad="eos"):
    tokenizer = Tokenizer(MERGES, context_length=6, pad=pad)  # room for four words
    config = TextConfig(tokenizer.vocab_size, 6, width=8, layers=2, heads=2, activation="gelu", pad=pad)
    return randomise(TextEncoder(config)), tokenizer


@pytest.fixture
def both(randomise):
    return reader(randomise)


def rows(encoder, tokenizer, *contents):
    r"""The encoder's states for contents of ids, each in its marks and padding, one after the other."""
    full = [[tokenizer.bos, *content, tokenizer.eos] for content in contents]
    full = [row + [tokenizer.pad_id] * (6 - len(row)) for row in full]
    return encoder(torch.tensor(full))


@pytest.mark.parametrize("weighting", [True, False])
@pytest.mark.parametrize("long_prompt", ["truncate", "chunk"])
@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_short_prompts_without_brackets_are_encoded_as_ever_bit_for_bit(
    randomise, weighting, long_prompt, pad
):
    encoder, tokenizer = reader(randomise, pad)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        encoder, prompts = encoder.to(dtype), ["red dog", "", "red dog red dog"]
        got = encode_prompts(encoder, tokenizer, prompts, weighting, long_prompt)
        assert torch.equal(got, encoder(tokenizer(prompts)))


def test_with_weights_of_one_nothing_changes_bit_for_bit(both):
    plain, written = encode_prompts(*both, ["red dog"]), encode_prompts(*both, ["(red:1.0) ((dog:0.5):2)"])
    assert torch.equal(plain, written)


def test_weighted_states_by_hand():
    # States 1, 2, 3, 6 (mean 3), weights 1, 1, 2, 1: 1, 2, 6, 6 of mean 3.75, so times 3 / 3.75 = 0.8.
    states, weights = torch.tensor([[[1.0], [2], [3], [6]]]).double(), torch.tensor([[1.0, 1, 2, 1]]).double()
    expected = torch.tensor([[[0.8], [1.6], [4.8], [4.8]]], dtype=torch.float64)
    torch.testing.assert_close(weighted_states(states, weights), expected, **TIGHT)


@pytest.mark.parametrize(
    "states",
    [
        [[1.0, -1.0], [2.0, -2.0]],  # both means are 0
        [[1.0, 1.0], [-1.0, -1.0]],  # the mean is 0, the weighted one is not
        [[3.0, 3.0], [-1.0, -1.0]],  # the weighted mean is 0
    ],
)
def test_states_with_a_mean_of_zero_are_weighted_and_not_rescaled(states):
    states, weights = torch.tensor([states]).double(), torch.tensor([[1.0, 3.0]]).double()
    torch.testing.assert_close(weighted_states(states, weights), states * weights[..., None])


def test_a_weight_lengthens_the_states_of_its_word_and_the_mean_stays(both):
    plain, weighted = encode_prompts(*both, ["red dog cat"]), encode_prompts(*both, ["red (dog:1.5) cat"])
    ratio = (weighted / plain)[0]  # [token, d]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    torch.testing.assert_close(ratio[:, 0] / ratio[0, 0], torch.tensor([1, 1, 1.5, 1, 1, 1]).double())
    torch.testing.assert_close(weighted.mean(), plain.mean(), **TIGHT)


def test_each_picture_keeps_its_own_mean(both):
    together = encode_prompts(*both, ["(red:1.4) dog", "cat", "[cat] dog"])
    alone = [encode_prompts(*both, [prompt]) for prompt in ("(red:1.4) dog", "cat", "[cat] dog")]
    torch.testing.assert_close(together, torch.cat(alone), **TIGHT)


def test_without_weighting_brackets_are_text(both):
    encoder, tokenizer = both
    got = encode_prompts(encoder, tokenizer, ["(red)"], weighting=False)
    assert torch.equal(got, encoder(tokenizer(["(red)"])))
    assert not torch.equal(got, encode_prompts(encoder, tokenizer, ["(red)"]))
    assert torch.equal(got, encode_prompts(encoder, tokenizer, [r"\(red\)"]))


def test_the_tokens_of_a_weighted_prompt_by_hand(both):
    _, tokenizer = both
    assert weighted_tokens(tokenizer, "red (dog:1.5) [cat]") == [(RED, 1.0), (DOG, 1.5), (CAT, 1 / 1.1)]
    assert weighted_tokens(tokenizer, "red (dog") == [(RED, 1.0), (DOG, 1.1)]


def test_half_precision_stays_half_precision(both):
    encoder, tokenizer = both
    full = encode_prompts(encoder, tokenizer, ["red (dog:1.5)"])
    half = encode_prompts(encoder.bfloat16(), tokenizer, ["red (dog:1.5)"])
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), full, rtol=0.1, atol=0.1)


def test_a_prompt_that_is_too_long_is_cut_and_the_words_lost_are_named(both):
    encoder, tokenizer = both
    with pytest.warns(
        UserWarning, match="6 tokens, and this model reads 4; these words are cut off: 'dog cat'"
    ):
        got = encode_prompts(encoder, tokenizer, ["red dog cat red dog cat"])
    assert torch.equal(got, encoder(tokenizer(["red dog cat red"])))


def test_a_prompt_that_just_fits_warns_of_nothing(both):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_prompts(*both, ["red dog cat red"])
        encode_prompts(*both, ["red dog cat red dog cat"], long_prompt="chunk")


def test_a_word_of_which_the_end_is_cut_off_is_lost(both):
    _, tokenizer = both
    assert lost_words(tokenizer, weighted_tokens(tokenizer, "red dog cat dogs red")) == "dogs red"  # do, g, s
    assert lost_words(tokenizer, weighted_tokens(tokenizer, "red dog cat red dogs")) == "dogs"
    assert lost_words(tokenizer, weighted_tokens(tokenizer, "xyzuv red")) == "xyzuv red"


def test_a_long_prompt_in_chunks_is_as_many_prompts_side_by_side(both):
    encoder, tokenizer = both
    got = encode_prompts(encoder, tokenizer, ["red dog cat red dog cat"], long_prompt="chunk")
    first, second = rows(encoder, tokenizer, [RED, DOG, CAT, RED], [DOG, CAT])
    assert got.shape == (1, 12, 8)
    torch.testing.assert_close(got[0], torch.cat([first, second]), **TIGHT)


@pytest.mark.parametrize("pad", ["eos", "zero"])
def test_a_shorter_prompt_gets_empty_chunks_to_the_same_number(randomise, pad):
    encoder, tokenizer = reader(randomise, pad)
    prompts = ["red dog cat red dog cat red dog cat", "dog", ""]
    got = encode_prompts(encoder, tokenizer, prompts, long_prompt="chunk")
    assert got.shape == (3, 18, 8)
    dog, empty = rows(encoder, tokenizer, [DOG], [])
    torch.testing.assert_close(got[1], torch.cat([dog, empty, empty]), **TIGHT)
    torch.testing.assert_close(got[2], torch.cat([empty, empty, empty]), **TIGHT)


def test_weights_stay_with_their_words_in_chunks_and_each_chunk_keeps_its_mean(both):
    encoder, tokenizer = both
    got = encode_prompts(encoder, tokenizer, ["red dog cat red (dog:2) cat"], long_prompt="chunk")
    first, second = rows(encoder, tokenizer, [RED, DOG, CAT, RED], [DOG, CAT])
    assert torch.equal(got[0, :6], first)
    louder = second * torch.tensor([1, 2, 1, 1, 1, 1])[:, None]
    torch.testing.assert_close(got[0, 6:], louder * second.mean() / louder.mean(), **TIGHT)


def test_no_prompts_are_no_contexts(both):
    assert encode_prompts(*both, []).shape == (0, 6, 8)


def test_another_way_with_long_prompts_is_an_error(both):
    with pytest.raises(LdmError, match="'wrap'; expected 'truncate' or 'chunk'"):
        encode_prompts(*both, ["red"], long_prompt="wrap")


def test_a_weight_beyond_all_numbers_is_an_error(both):
    with pytest.raises(LdmError, match="the weight of 'red' is inf; expected a number such as 1.3"):
        encode_prompts(*both, [f"(red:{'9' * 400})"])


def test_a_context_without_room_for_words_is_an_error(both):
    with pytest.raises(LdmError, match="context_length of 2"):
        encode_prompts(both[0], Tokenizer(MERGES, context_length=2), ["red"])
