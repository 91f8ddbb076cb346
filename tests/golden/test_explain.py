r"""A golden test that fails says which layer is the first to differ, by how much, and which mistake does that."""

import json

import pytest
import torch

from ldm.checkpoints.names import Row
from ldm.lab.museum.rooms import MISTAKES
from tests.golden import make_mistakes
from tests.golden.compare import assert_same
from tests.golden.explain import (
    MISTAKES_FILE,
    Difference,
    explain,
    first_difference,
    known_mistakes,
    place,
    told,
)
from tests.mutants.live import made

BY_NUMBER = {mistake.number: mistake for mistake in MISTAKES}


@pytest.mark.parametrize("case", make_mistakes.CASES)
def test_every_layer_equals_the_reference(case):
    assert make_mistakes.effect(case) is None


@pytest.mark.parametrize(
    ("number", "case", "layer", "before"),
    [
        ("6", "unet/sd1/even", "down.0.attn.0.layers.0.feed_forward.proj_out", "proj_in"),
        ("12b", "unet/tiny/odd", "up.0.res.0.norm_1", "mid.res_2.conv_2"),
        ("2", "vae/sd/odd", "encoder.down.0.downsample.conv", "down.0.res.1.conv_2"),
        ("16c", "vae/tiny/latent", "decoder.up.0.res.0.norm_1", "decoder.mid.res_2.conv_2"),
        ("10a", "unet/sd2/even", "down.0.attn.0.layers.0.self_attn.out", "self_attn.v"),
        ("4a", "text/last", "norm_out", "layers.2.mlp.fc_2"),
        ("7b", "vae/tiny/latent", "decoder.post_quant_conv", None),
    ],
)
def test_a_mistake_is_named_with_its_layer(number, case, layer, before):
    mistake = BY_NUMBER[number]
    with made(mistake):
        model, rows, run = make_mistakes.CASES[case]()
        words = explain(case, model, rows, run)
    assert words.startswith(f"The first layer that differs is {layer} (there: "), words
    still_equal = [line for line in words.splitlines() if "Still equal before it" in line]
    assert [line.endswith(f"{before}.") for line in still_equal] == [True] * (before is not None)
    assert f"It is what this mistake does: {number}, {mistake.name}." in words


@pytest.mark.parametrize("number", ["6", "12a", "17b"])
def test_the_recorded_effects_are_those_that_the_mistakes_have_now(number):
    table = json.loads(MISTAKES_FILE.read_text(encoding="utf-8"))
    cases = ("text/last", "vae/tiny/latent", "unet/tiny/odd")
    recorded = {case: tuple(table[case][number]) for case in cases if number in table[case]}
    now = make_mistakes.effects(BY_NUMBER[number], cases)
    assert recorded.keys() == now.keys() and len(now) > 0
    for case, (layer, size) in now.items():
        assert recorded[case] == (layer, pytest.approx(size, rel=0.01))


def test_the_recorded_mistakes_are_those_that_are_listed():
    table = json.loads(MISTAKES_FILE.read_text(encoding="utf-8"))
    strangers = {number for effects in table.values() for number in effects} - set(BY_NUMBER)
    assert not strangers, f"{strangers}: run python -m tests.golden.make_mistakes"


def test_a_mistake_is_taken_back():
    with pytest.raises(ZeroDivisionError), made(BY_NUMBER["6"]):
        raise ZeroDivisionError
    with made(BY_NUMBER["10a"]):
        pass
    assert make_mistakes.effect("unet/sd1/even") is None


ROWS = [Row("a.weight", "x.weight"), Row("b.weight", "y.weight"), Row("c.weight", "z.weight")]
THEIRS = {name: torch.tensor([1.0, -4.0]).double() for name in "xyz"}


def test_the_first_difference_by_hand():
    ours = {"a": torch.tensor([1.0, -4.0]), "b": torch.tensor([1.0, -3.0]), "c": torch.zeros(2)}
    found = first_difference(ours, THEIRS, ROWS)
    assert found == Difference("b", "y", absolute=1.0, relative=0.25, before="a")


def test_what_is_not_a_number_differs_and_what_never_ran_is_told():
    found = first_difference({"a": torch.tensor([float("nan"), 0.0])}, THEIRS, ROWS)
    assert found is not None and found.layer == "a"
    found = first_difference({"a": THEIRS["x"], "c": THEIRS["z"]}, THEIRS, ROWS)
    assert found is not None and (found.layer, found.before) == ("b", "a")
    assert "b (there: y),\n    which never runs here.\n    Still equal before it: a." in told(found)


def test_another_size_at_the_same_kind_of_place_is_only_near():
    found = Difference("up.1.attn.2.layers.0.feed_forward.proj_out", "?", 0.5, 0.123456, None)
    same, near = known_mistakes(found, None)
    assert same == [] and "6, GEGLU's halves swapped" in near


def test_a_place_forgets_which_one_of_many_it_is():
    assert place("up.1.attn.2.proj_in") == place("mid.attn.proj_in") == "attn.proj_in"
    assert place("encoder.down.0.res.0.conv_1") == place("decoder.up.2.res.1.conv_1") == "vae.res.conv_1"
    assert (
        place("mid.res_1.conv_2") == "res.conv_2"
        and place("layers.2.mlp.fc_2") == "layers.mlp.fc_2"
        and place("norm_out") == "norm_out"
    )


def test_a_comparison_that_fails_says_why_and_one_that_holds_does_not_ask():
    x = torch.ones(3).double()
    assert_same(x, x, why=lambda: 1 / 0)
    with pytest.raises(AssertionError, match="5.0e-01 of the largest value.*\nbecause"):
        assert_same(x / 2, x, why=lambda: "because")
    with pytest.raises(AssertionError, match="another shape.*\nbecause"):
        assert_same(x[:2], x, why=lambda: "because")
