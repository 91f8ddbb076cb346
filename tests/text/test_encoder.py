r"""CLIP's text encoder."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ldm.config import CLIP_L_TEXT, OPENCLIP_H_TEXT, TextConfig
from ldm.errors import LdmError
from ldm.text.encoder import TextEncoder, pool

SMALL = TextConfig(20, 9, width=8, layers=3, heads=2, activation="quick_gelu")
BOS, EOS = 18, 19
TIGHT = {"rtol": 0, "atol": 1e-12}


def prompt(*content, pad=EOS, length=9):
    row = [BOS, *content, EOS]
    return torch.tensor([row + [pad] * (length - len(row))])


@pytest.mark.parametrize(("config", "count"), [(CLIP_L_TEXT, 123_060_480), (OPENCLIP_H_TEXT, 340_387_840)])
def test_the_encoders_of_stable_diffusion_have_their_published_sizes(config, count):
    with torch.device("meta"):
        encoder = TextEncoder(config)
    assert sum(p.numel() for p in encoder.parameters()) == count


def test_without_layers_a_state_is_the_normalised_sum_of_token_and_position():
    r"""Token (1, 1), position (2, 0): their sum (3, 1) has mean 2 and variance 1, so it becomes (1, -1)."""
    encoder = TextEncoder(replace(SMALL, width=2, layers=0)).double()
    encoder.token_embedding.weight.data[5] = torch.tensor([1.0, 1.0])
    encoder.position_embedding.weight.data[1] = torch.tensor([2.0, 0.0])
    state = encoder(torch.tensor([[0, 5]]))[0, 1]
    expected = torch.tensor([1.0, -1.0], dtype=torch.float64) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(state, expected, **TIGHT)


@pytest.mark.parametrize("j", [1, 4, 8])
def test_changing_token_j_changes_nothing_before_j(randomise, j):
    encoder, ids = randomise(TextEncoder(SMALL)), prompt(3, 7, 2, 11)
    changed = ids.clone()
    changed[0, j] = 13
    before, after = encoder(ids), encoder(changed)
    torch.testing.assert_close(after[:, :j], before[:, :j], **TIGHT)
    assert not torch.isclose(after[:, j:], before[:, j:]).all(-1).any()  # and everything from j on


def test_a_shorter_sequence_gives_the_same_first_states(randomise):
    encoder, ids = randomise(TextEncoder(SMALL)), prompt(3, 7)
    torch.testing.assert_close(encoder(ids[:, :4]), encoder(ids)[:, :4], **TIGHT)


def test_what_the_padding_is_matters(randomise):
    # The padding is part of the context: eos and zero give other states there, and equal ones before.
    encoder = randomise(TextEncoder(SMALL))
    with_eos, with_zero = encoder(prompt(3, 7)), encoder(prompt(3, 7, pad=0))
    torch.testing.assert_close(with_eos[:, :4], with_zero[:, :4], **TIGHT)
    assert not torch.isclose(with_eos[:, 4:], with_zero[:, 4:]).all(-1).any()


def test_word_order_matters(randomise):
    encoder = randomise(TextEncoder(SMALL))
    assert not torch.allclose(encoder(prompt(3, 7))[:, 3], encoder(prompt(7, 3))[:, 3])


def test_a_text_does_not_depend_on_its_batch(randomise):
    encoder, a, b = randomise(TextEncoder(SMALL)), prompt(3, 7), prompt(5)
    torch.testing.assert_close(encoder(torch.cat([a, b]))[1:], encoder(b), **TIGHT)


def test_penultimate_is_the_state_before_the_last_layer_after_the_final_norm(randomise):
    full = randomise(TextEncoder(SMALL))
    short = TextEncoder(replace(SMALL, output="penultimate")).double()
    assert len(short.layers) == len(full.layers) - 1
    last = {name for name in full.state_dict() if name.startswith("layers.2.")}
    short.load_state_dict({n: p for n, p in full.state_dict().items() if n not in last})
    seen = []
    full.layers[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    full(prompt(3, 7))
    torch.testing.assert_close(short(prompt(3, 7)), full.norm_out(seen[0]), **TIGHT)


@pytest.mark.parametrize("skip", [2, 3])
def test_clip_skip_takes_an_earlier_layer_and_still_the_final_norm(randomise, skip):
    encoder, ids = randomise(TextEncoder(SMALL)), prompt(3, 7)
    x = encoder.embed(ids)
    for layer in encoder.layers[: 4 - skip]:
        x = layer(x, causal=True)
    torch.testing.assert_close(encoder(ids, clip_skip=skip), encoder.norm_out(x), **TIGHT)
    assert torch.equal(encoder(ids, clip_skip=1), encoder(ids))


def test_clip_skip_counts_from_the_models_own_layer(randomise):
    # Stable Diffusion 2's is the one before the last; XL's too, and without the norm.
    full, ids = randomise(TextEncoder(replace(SMALL, pooled_width=5))), prompt(3, 7)
    hidden = TextEncoder(replace(SMALL, output="hidden", pooled_width=5)).double()
    hidden.load_state_dict(full.state_dict())
    layer = full.layers[0](full.embed(ids), causal=True)
    torch.testing.assert_close(hidden(ids, clip_skip=2), layer, **TIGHT)
    pooled = [encoder.encode(ids, skip)[1] for encoder, skip in ((full, 1), (full, 3), (hidden, 2))]
    assert torch.equal(pooled[0], pooled[1]) and torch.equal(pooled[0], pooled[2])


@pytest.mark.parametrize("skip", [0, -1, 4])
def test_a_clip_skip_that_leaves_no_layer_is_an_error(skip):
    with pytest.raises(LdmError, match=f"a clip_skip of {skip}; expected 1 .* to 3"):
        TextEncoder(SMALL)(prompt(3, 7), clip_skip=skip)


def test_the_layers_equal_torchs_own_transformer(randomise):
    encoder, ids = randomise(TextEncoder(replace(SMALL, activation="gelu"))), prompt(3, 7, 2)
    x = encoder.token_embedding.weight[ids] + encoder.position_embedding.weight
    mask = nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64)
    for layer in encoder.layers:
        theirs = nn.TransformerEncoderLayer(
            8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
        )
        ours = layer.state_dict()
        packed = {f"in_proj_{leaf}": torch.cat([ours[f"attn.{n}.{leaf}"] for n in "qkv"]) for leaf in LEAVES}
        theirs.self_attn.load_state_dict(
            packed | {f"out_proj.{leaf}": ours[f"attn.out.{leaf}"] for leaf in LEAVES}
        )
        pairs = {"norm1": "norm_1", "norm2": "norm_2", "linear1": "mlp.fc_1", "linear2": "mlp.fc_2"}
        for name, mine in pairs.items():
            theirs.get_submodule(name).load_state_dict(layer.get_submodule(mine).state_dict())
        x = theirs(x, src_mask=mask)
    torch.testing.assert_close(encoder(ids), encoder.norm_out(x), **TIGHT)


LEAVES = ("weight", "bias")


def test_pool_takes_the_first_end_mark():
    ids = torch.cat([prompt(3, 7), prompt(3, 7, pad=0), prompt(2, 4, 6, 8, 1, 3, 5)])
    assert ids.argmax(-1).tolist() == [3, 3, 8]
    states = torch.arange(3 * 9 * 2, dtype=torch.float64).reshape(3, 9, 2)
    assert torch.equal(pool(states, ids), torch.stack([states[0, 3], states[1, 3], states[2, 8]]))


def test_a_prompt_longer_than_the_positions_is_an_error():
    with pytest.raises(LdmError, match="10 tokens.* 9 positions"):
        TextEncoder(SMALL)(torch.zeros(1, 10, dtype=torch.int64))


def test_an_id_outside_the_vocabulary_is_an_error():
    with pytest.raises(IndexError):
        TextEncoder(SMALL)(torch.tensor([[0, 20]]))
