r"""Where the time goes, by kind of layer."""

import itertools
import time

import pytest
import torch

import ldm
from ldm.lab.bench.layers import REST, Cost, by_kind, from_numbers, layers, table, to_numbers
from ldm.lab.bench.networks import evaluation, operations
from ldm.nn.attention import Attention
from tests.lab.bench.conftest import SIZES


@torch.no_grad()
def test_the_operations_are_those_that_torch_counts_and_the_model_is_left_as_it_was(folder):
    model = ldm.load(folder, torch.float32, "cpu")
    costs = by_kind(model.unet, evaluation(model, SIZES))
    assert sum(cost.operations for cost in costs.values()) == operations(SIZES)
    assert {"3x3 convolutions", "linear layers", "cross-attention", "normalisation", REST} < costs.keys()
    assert any(kind.startswith("self-attention over") for kind in costs)
    for part in model.unet.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks and "attend" not in vars(part)


@torch.no_grad()
def test_every_second_belongs_to_one_kind(folder, monkeypatch):
    model = ldm.load(folder, torch.float32, "cpu")
    clock = itertools.count(step=1.0)  # each reading is a second after the last
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    costs = by_kind(model.unet, evaluation(model, SIZES))
    calls = len(layers(model.unet))
    attentions = sum(isinstance(part, Attention) for part in model.unet.modules())
    assert sum(cost.seconds for cost in costs.values()) == 2 * calls + 1  # the readings, from first to last
    assert costs["cross-attention"].seconds == attentions / 2


@torch.no_grad()
def test_the_operations_of_decoding_are_those_that_torch_counts(folder):
    vae, side = ldm.load(folder, torch.float32, "cpu").vae, SIZES.side // SIZES.config.vae.factor
    costs = by_kind(vae, lambda: vae.decode(torch.zeros(1, 4, side, side)))
    assert sum(cost.operations for cost in costs.values()) == operations(SIZES, "decode")


def test_the_convolution_after_an_upsampling_is_counted_once_fused_or_not(folder):
    unet = ldm.load(folder, torch.float32, "cpu").unet
    inside = unet.up[0].upsample
    assert inside in layers(unet) and inside.conv not in layers(unet)


def test_the_table_is_ordered_by_time_and_has_shares_of_the_peak():
    costs = {"a": Cost(1.0, 3e9), "b": Cost(3.0, 1e9), REST: Cost(0.0, 0.0)}
    assert table(costs, peak=4e9)[2:] == [
        "| b | 25% | 3.00 | 75% | 8% |",
        "| a | 75% | 1.00 | 25% | 75% |",
        f"| {REST} | 0% | 0.00 | 0% | - |",
        "| together | 100% | 4.00 | 100% | 25% |",
    ]


def test_costs_survive_as_the_numbers_of_a_case():
    costs = {"3x3 convolutions": Cost(1.0, 3e9), REST: Cost(3.0, 0.0)}
    assert from_numbers(to_numbers(costs) | {"matmul": 1.0, "seconds": 4.0}) == costs


def test_what_fails_inside_leaves_no_hook(folder):
    model = ldm.load(folder, torch.float32, "cpu")
    with pytest.raises(ZeroDivisionError):
        by_kind(model.unet, lambda: 1 / 0)
    assert not any(part._forward_hooks or "attend" in vars(part) for part in model.unet.modules())
