r"""Merging: rounded once, of the right size, and nothing at strength 0."""

import pytest
import torch

from ldm.adapters.merge import Change, difference, merged
from ldm.errors import LdmError


def lora(draw, out=6, into=5, rank=2, **more):
    return Change("LoRA", {"up": draw(out, rank), "down": draw(rank, into)}, **more)


def test_half_precision_is_rounded_once(draw):
    weight, changes = draw(6, 5).bfloat16(), [(lora(draw), 0.5), (lora(draw), -0.25)]
    exact = merged(weight.float(), changes)
    assert torch.equal(merged(weight, changes), exact.bfloat16())


def test_the_order_in_which_numbers_are_stored_stays(draw):
    weight = draw(6, 5, 3, 3).to(memory_format=torch.channels_last)
    change = Change("LoRA", {"up": draw(6, 2, 1, 1), "down": draw(2, 5, 3, 3)})
    assert merged(weight, [(change, 1.0)]).stride() == weight.stride()


def test_a_linear_map_may_be_a_convolution_in_the_file_and_the_other_way_round(draw):
    up, down, weight = draw(6, 2), draw(2, 5), draw(6, 5)
    flat = Change("LoRA", {"up": up, "down": down})
    deep = Change("LoRA", {"up": up[:, :, None, None], "down": down[:, :, None, None]})
    expected = difference(flat, weight)
    assert torch.equal(difference(deep, weight), expected)
    assert torch.equal(difference(flat, weight[:, :, None, None]), expected[:, :, None, None])


def test_half_of_a_dora_is_half_the_way(draw):
    weight, change = draw(6, 5), lora(draw, magnitude=draw(6))
    whole, half = (merged(weight, [(change, s)]) for s in (1.0, 0.5))
    torch.testing.assert_close(half, (weight + whole) / 2)
    assert torch.equal(merged(weight, [(change, 0.0)]), weight)


def test_whole_changes_are_added_as_they_are(draw):
    bias, weight, diff = draw(6), draw(6, 5), draw(6, 5, 1, 1)
    assert torch.equal(
        merged(bias, [(Change("full", {"diff": diff[:, 0, 0, 0]}), 2.0)]), bias + 2 * diff[:, 0, 0, 0]
    )
    assert torch.equal(merged(weight, [(Change("full", {"diff": diff}), 1.0)]), weight + diff[:, :, 0, 0])


@pytest.mark.parametrize(
    ("up", "down", "message"),
    [
        ((6, 2), (3, 5), r"do not multiply: up \[6, 2\], down \[3, 5\]"),
        ((6,), (2, 5), "do not multiply"),
        ((), (), "do not multiply"),
        ((6, 0), (0, 5), "its rank is 0"),
    ],
)
def test_factors_that_do_not_multiply_are_an_error(draw, up, down, message):
    with pytest.raises(LdmError, match=message):
        Change("LoRA", {"up": draw(*up), "down": draw(*down)})


@pytest.mark.parametrize("shape", [(5, 6), (6, 10), (3, 10), (6, 5, 3, 3)])
def test_a_change_of_another_size_is_an_error_even_with_as_many_numbers(draw, shape):
    with pytest.raises(LdmError, match=r"does not fit: up \[6, 2\], down \[2, 5\] for a weight of"):
        difference(lora(draw), draw(*shape))


@pytest.mark.parametrize(("count", "per_output"), [(5, True), (6, False), (30, True)])
def test_a_magnitude_along_the_other_axis_is_an_error(draw, count, per_output):
    change = lora(draw, magnitude=draw(count), per_output=per_output)
    with pytest.raises(LdmError, match=f"a magnitude of {count} numbers"):
        difference(change, draw(6, 5))


def test_a_core_and_a_magnitude_of_the_inputs_reach_their_formulas(draw):
    up, mid, down, lengths = draw(6, 2, 1, 1), draw(2, 2, 3, 3), draw(2, 5, 1, 1), draw(1, 5, 1, 1)
    weight = draw(6, 5, 3, 3)
    factors = {"up": up, "down": down, "mid": mid}
    delta = torch.einsum("op,pqhw,qi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    expected = 1.5 * delta
    torch.testing.assert_close(difference(Change("LoRA", factors, alpha=3.0), weight), expected)
    summed = weight + expected
    norm = summed.transpose(0, 1).flatten(1).norm(dim=1)[None, :, None, None]
    change = Change("LoRA", factors, 3.0, lengths, per_output=False)
    torch.testing.assert_close(merged(weight, [(change, 1.0)]), lengths * summed / norm)
