r"""Which instructions of the CPU compute in bfloat16."""

import pytest
import torch

from ldm.backend.cpu import bfloat16_instructions


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "AMX"),
        ({"amx_bf16": False, "avx512_bf16": True, "avx512_f": True}, "AVX-512"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, None),
        ({}, None),
    ],
)
def test_the_faster_kind_is_named(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert bfloat16_instructions() == expected


def test_there_are_none_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert bfloat16_instructions() is None
