r"""The product of two small matrices, worked by hand and run beside the layer."""

import pytest
import torch
import torch.nn.functional as F

from ldm.adapters.lora import low_rank, scale


def test_worked_by_hand():
    up, down = torch.tensor([[1.0], [2.0], [0.0]]), torch.tensor([[3.0, 4.0]])
    assert torch.equal(low_rank(up, down), torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0]]))


def test_alpha_is_divided_by_the_rank_and_without_one_the_scale_is_1():
    assert (scale(8.0, 4), scale(1.0, 4), scale(0.0, 4), scale(None, 4)) == (2.0, 0.25, 0.0, 1.0)


@pytest.mark.parametrize(("stride", "kernel"), [(1, (3, 3)), (2, (3, 3)), (1, (1, 1)), (1, (3, 1))])
def test_a_convolution_merged_equals_down_and_up_run_one_after_the_other(draw, stride, kernel):
    x, down, up = draw(2, 5, 8, 7), draw(3, 5, *kernel), draw(6, 3, 1, 1)
    beside = F.conv2d(F.conv2d(x, down, stride=stride, padding=1), up)
    merged = F.conv2d(x, low_rank(up, down).reshape(6, 5, *kernel), stride=stride, padding=1)
    torch.testing.assert_close(merged, beside, rtol=0, atol=1e-12)


def test_with_a_core_it_equals_three_convolutions(draw):
    r"""The core is not symmetric, so its two axes of length r cannot be exchanged."""
    x, down, mid, up = draw(2, 5, 8, 7), draw(3, 5, 1, 1), draw(3, 3, 3, 3), draw(6, 3, 1, 1)
    beside = F.conv2d(F.conv2d(F.conv2d(x, down), mid, padding=1), up)
    merged = F.conv2d(x, low_rank(up, down, mid).reshape(6, 5, 3, 3), padding=1)
    torch.testing.assert_close(merged, beside, rtol=0, atol=1e-12)
