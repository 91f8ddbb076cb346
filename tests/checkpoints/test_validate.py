r"""Numbers that are none are found, wherever they hide."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ldm.checkpoints.validate import check_finite, meta_model
from ldm.errors import LdmError
from tests.checkpoints.made import FAMILIES


def test_finite_numbers_pass_even_if_their_sum_is_too_large():
    check_finite({"a": torch.full((4,), 3e38), "b": torch.ones(0), "c": torch.tensor(1.0)}, Path("x"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_tensor_with_a_spoilt_number_is_named(value, dtype):
    spoilt = torch.ones(3, 5, dtype=dtype)
    spoilt[1, 2] = value
    with pytest.raises(LdmError, match="x: the tensor b has NaN or infinity"):
        check_finite({"a": torch.ones(2), "b": spoilt}, Path("x"))
    spoilt[0, 0] = -value  # two infinities that cancel one another
    with pytest.raises(LdmError):
        check_finite({"b": spoilt}, Path("x"))


def test_a_skeleton_has_shapes_and_no_memory_and_sizes_that_make_none_are_an_error():
    config = FAMILIES["sd1"].unet
    assert all(p.device.type == "meta" for p in meta_model("unet", config).parameters())
    with pytest.raises(LdmError, match="its sizes make no U-Net .*; give a config that fits"):
        meta_model("unet", replace(config, groups=7))
