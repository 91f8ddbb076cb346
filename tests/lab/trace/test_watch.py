r"""Watching cross-attention: every layer is seen, with its own weights, and the heads to show are chosen."""

from dataclasses import replace
from threading import Thread

import pytest
import torch

from ldm.config import Head
from ldm.errors import LdmError
from ldm.lab.trace.recorder import record
from ldm.nn.attention import Attention
from ldm.unet.watch import attention_map, chosen_heads, head_counts, watch_attention

LAYERS = ["down.1.attn.0.layers.0", "mid.attn.layers.0", "up.0.attn.0.layers.0", "up.0.attn.1.layers.0"]


def evaluate(model):
    x = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.unet(x, torch.tensor(500), model.encode_text(["red dog"] * 2).context)


def test_a_layers_map_is_the_mean_over_heads_laid_out_as_its_level():
    # Two heads, a level of 1 x 2 pixels, two tokens: the left pixel gives token 0 the weights 0.8 and 0.4.
    weights = torch.tensor([[[[0.8, 0.2], [0.1, 0.9]], [[0.4, 0.6], [0.3, 0.7]]]])
    same = attention_map(weights, (1, 2), (1, 2))
    torch.testing.assert_close(same, torch.tensor([[[[0.6, 0.2]], [[0.4, 0.8]]]]))
    # Twice as wide, bilinear: the new pixels stand at a quarter and three quarters of the way.
    wider = attention_map(weights, (1, 2), (1, 4))[0, 0, 0]
    torch.testing.assert_close(wider, torch.tensor([0.6, 0.5, 0.3, 0.2]))
    # One of the heads alone
    second = attention_map(weights, (1, 2), (1, 2), [1])
    torch.testing.assert_close(second, torch.tensor([[[[0.4, 0.3]], [[0.6, 0.7]]]]))


def test_every_layer_is_seen_once_per_evaluation_with_weights_that_sum_to_one(model):
    seen = []
    plain = evaluate(model)
    with watch_attention(model.unet, lambda *what: seen.append(what)):
        watched = evaluate(model)
    evaluate(model)  # nobody watches any more
    assert [layer for layer, _, _ in seen] == LAYERS == list(head_counts(model.unet))
    for layer, level, weights in seen:
        assert level == (4, 6) and weights.shape == (2, head_counts(model.unet)[layer], 24, 32)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    torch.testing.assert_close(watched, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(seen[0][2], seen[2][2])


def test_the_layers_that_are_watched_stay_as_they_are_for_other_threads(model):
    r"""Only copies compute by hand; another thread that uses the U-Net meanwhile is neither slowed nor seen."""
    layers, seen = [m for m in model.unet.modules() if isinstance(m, Attention)], []
    before = [layer.by_hand for layer in layers]
    with watch_attention(model.unet, lambda *what: seen.append(what)):
        assert [layer.by_hand for layer in layers] == before and not any(before)
        other = Thread(target=evaluate, args=(model,))
        other.start()
        other.join()
        assert seen == []
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in model.unet.modules()]
    assert not any(after or ahead for after, ahead in hooks)


def test_without_a_choice_all_heads_are_shown_and_else_those_that_the_config_names(model):
    assert chosen_heads(model.config, model.unet) == dict.fromkeys(LAYERS, [0, 1])
    named = replace(model.config, map_heads=(Head(LAYERS[2], 1), Head(LAYERS[0], 0), Head(LAYERS[2], 0)))
    assert chosen_heads(named, model.unet) == {LAYERS[2]: [1, 0], LAYERS[0]: [0]}


@pytest.mark.parametrize("head", [Head("up.9.attn.0.layers.0", 0), Head(LAYERS[0], 2)])
def test_a_head_that_the_unet_lacks_is_an_error_that_says_what_to_do(model, head):
    model.config = replace(model.config, map_heads=(head,))
    told = "this U-Net lacks; choose them with `ldm evaluate --choose-heads`"
    with pytest.raises(LdmError, match=told), record(model, "red dog"):
        pass


def test_recorded_maps_are_the_mean_over_the_chosen_heads(model):
    seen = {}
    chosen = (Head(LAYERS[0], 1), Head(LAYERS[3], 0), Head(LAYERS[3], 1))
    model.config = replace(model.config, map_heads=chosen)
    with record(model, "red dog") as recording:
        model.generate("red dog", seed=7, steps=1, size=(24, 16), guidance=1.0, progress=recording.watch())
    step = recording.steps[0]
    with (
        watch_attention(model.unet, lambda layer, level, weights: seen.__setitem__(layer, weights)),
        torch.no_grad(),
    ):
        model.unet(step.x_t, torch.tensor(step.t), model.encode_text(["red dog"]).context)
    maps = [seen[head.layer][0, head.head].T[:4].unflatten(-1, (4, 6)) for head in chosen]
    mean = torch.nn.functional.interpolate(torch.stack(maps).mean(0)[None], (8, 12), mode="bilinear")
    torch.testing.assert_close(step.attention, mean, rtol=1e-4, atol=1e-6)
