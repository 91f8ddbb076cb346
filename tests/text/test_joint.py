r"""Two text encoders together: against transformers, by hand, and with weights and chunks."""

import pytest
import torch

from ldm.checkpoints.key_map import text_rows
from ldm.text.encoder import TextEncoder, pool
from ldm.text.joint import encode_jointly
from ldm.text.prompt import encode_prompts
from tests.golden.compare import assert_same, filled, golden
from tests.golden.sdxl import TEXT, TEXT_2, TOKENIZER


@pytest.fixture(scope="module")
def encoders():
    return [filled(TextEncoder(config), text_rows(config)) for config in (TEXT, TEXT_2)]


@pytest.fixture
def pair(encoders):
    return [(encoders[0], TOKENIZER.eos), (encoders[1], 0)]


def test_the_states_before_the_last_layer_and_the_pooled_vector_equal_the_reference(encoders):
    expected = golden("sdxl")
    context, pooled = encoders[1].encode(expected["text/ids"])
    assert_same(context, expected["text/context"])
    assert_same(pooled, expected["text/pooled"])
    assert_same(encoders[0](expected["text/ids"]), expected["text/first"])


def test_the_pooled_vector_is_the_projected_state_at_the_first_end_token(encoders):
    ids = torch.tensor([[516, 7, 517, 517, 517], [516, 7, 8, 9, 517]])
    with torch.no_grad():
        x = encoders[1].embed(ids)
        for layer in encoders[1].layers:
            x = layer(x, causal=True)
        x = encoders[1].norm_out(x)
        by_hand = torch.stack([x[0, 2], x[1, 4]]) @ encoders[1].projection.weight.T
        torch.testing.assert_close(encoders[1].encode(ids)[1], by_hand, rtol=0, atol=1e-14)
    assert torch.equal(pool(x, ids), torch.stack([x[0, 2], x[1, 4]]))


def test_contexts_are_joined_token_by_token_and_each_encoder_pads_in_its_own_way(encoders, pair):
    context, pooled = encode_jointly(pair, TOKENIZER, ["red dog", ""])
    rows = [[516, 513, 515, 517], [516, 517]]
    for encoder, pad, part in ((encoders[0], 517, context[..., :16]), (encoders[1], 0, context[..., 16:])):
        ids = torch.tensor([row + [pad] * (32 - len(row)) for row in rows])
        assert torch.equal(part, encoder(ids))
    assert torch.equal(pooled, encoders[1].encode(ids)[1])


def test_one_encoder_alone_is_encode_prompts(encoders):
    context, pooled = encode_jointly([(encoders[0], TOKENIZER.pad_id)], TOKENIZER, ["red dog"])
    assert torch.equal(context, encode_prompts(encoders[0], TOKENIZER, ["red dog"])) and pooled is None


def test_weights_change_the_context_of_both_encoders_and_not_the_pooled_vector(pair):
    plain, weighted = (encode_jointly(pair, TOKENIZER, [text]) for text in ("red dog", "red (dog:1.5)"))
    for channels in (slice(0, 16), slice(16, 40)):
        assert not torch.allclose(plain[0][..., channels], weighted[0][..., channels])
    assert torch.equal(plain[1], weighted[1])


def test_of_a_prompt_in_chunks_the_first_gives_the_pooled_vector(pair):
    long = " ".join(["red dog"] * 20)
    context, pooled = encode_jointly(pair, TOKENIZER, [long, "dog"], long_prompt="chunk")
    first, _ = encode_jointly(pair, TOKENIZER, [" ".join(["red dog"] * 15)])
    assert context.shape == (2, 64, 40)
    torch.testing.assert_close(context[:1, :32], first, rtol=0, atol=1e-13)
    torch.testing.assert_close(
        pooled, encode_jointly(pair, TOKENIZER, [" ".join(["red dog"] * 15), "dog"])[1]
    )
