r"""What is computed, and which numbers of it are compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ldm.errors import LdmError
from ldm.lab.verify.checks import compute, parse_slices


def test_a_part_is_read_as_python_would():
    numbers = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    assert torch.equal(numbers[parse_slices("-1, -2:, :2, -2:")], numbers[-1, -2:, :2, -2:])
    assert torch.equal(numbers[parse_slices("0, -3:, 1:3, -1")], numbers[0, -3:, 1:3, -1])


@pytest.mark.parametrize("part", ["", "a", "1.5", "1, ,"])
def test_a_part_of_anything_but_numbers_is_an_error(part):
    with pytest.raises(ValueError):
        parse_slices(part)


def test_only_the_image_of_the_slice_is_computed_and_it_is_the_right_one(build, recorded):
    model, seen = build(), []
    model.vae.decoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    reference = next(reference for reference in recorded.references if reference.component == "vae.decode")
    last, first = (
        compute(model, reference),
        compute(model, replace(reference, part=reference.part.replace("-1", "0", 1))),
    )
    assert seen == [1, 1] and last != first
    latent = torch.from_numpy(np.random.RandomState(13).standard_normal((3, 4, 8, 8)))
    whole = model.vae.decode(0.18215 * latent)[-1, -2:, :2, -2:]
    assert last == pytest.approx(whole.flatten().tolist(), abs=1e-10)


def test_computing_leaves_gradients_alone(build, recorded):
    reference = next(reference for reference in recorded.references if reference.component == "latent")
    model = build().requires_grad_(True)
    compute(model, reference)
    assert torch.is_grad_enabled() and all(p.grad is None for p in model.parameters())


def test_an_unknown_component_is_an_error(build, recorded):
    with pytest.raises(LdmError, match="'ears'; expected one of vae.decode, "):
        compute(build(), replace(recorded.references[0], component="ears"))
