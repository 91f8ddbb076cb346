r"""Which instructions of the CPU compute in bfloat16."""

import platform

import pytest
import torch

from ldm.backend.cpu import bfloat16_instructions, cpu_name


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


def test_the_cpu_goes_by_the_name_that_linux_gives(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nmodel name\t: A Chip: 3 GHz\nflags\t: amx\nmodel name\t: A Chip: 3 GHz\n"
    )
    assert cpu_name(file) == "A Chip: 3 GHz" and cpu_name(tmp_path / "none") == platform.machine()
