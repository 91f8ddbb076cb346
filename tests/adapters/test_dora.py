r"""Direction from the sum, length from the magnitude: along the right axis, of the right matrix."""

import torch

from ldm.adapters.dora import dora


def test_worked_by_hand_along_both_axes():
    weight, delta = torch.tensor([[2.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    rows = dora(weight, delta, torch.tensor([10.0, 2.0]))
    assert torch.allclose(rows, torch.tensor([[6.0, 8.0], [0.0, 2.0]]))  # (3, 4) has the length 5
    columns = dora(weight, delta, torch.tensor([6.0, 17**0.5]), per_output=False)
    assert torch.allclose(columns, torch.tensor([[6.0, 4.0], [0.0, 1.0]]))


def test_each_output_has_the_length_of_its_magnitude_over_all_inputs_and_the_kernel(draw):
    weight, delta, lengths = draw(4, 6, 3, 3), draw(4, 6, 3, 3), draw(4).abs()
    changed = dora(weight, delta, lengths[:, None, None, None])
    torch.testing.assert_close(changed.flatten(1).norm(dim=1), lengths)
    lengths = draw(6).abs()
    changed = dora(weight, delta, lengths[None, :, None, None], per_output=False)
    torch.testing.assert_close(changed.transpose(0, 1).flatten(1).norm(dim=1), lengths)


def test_the_norm_is_that_of_the_sum_so_the_length_of_the_change_does_not_matter(draw):
    weight, lengths = draw(4, 6), draw(4)
    torch.testing.assert_close(dora(weight, 2 * weight, lengths), dora(weight, 0 * weight, lengths))


def test_a_row_of_zeros_stays_zero(draw):
    weight = draw(3, 4)
    changed = dora(weight, torch.cat([-weight[:1], draw(2, 4)]), draw(3))
    assert (changed[0] == 0).all() and changed.isfinite().all()
