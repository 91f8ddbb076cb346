r"""Which instructions of the CPU compute in bfloat16."""

import platform

import pytest
import torch

from ldm.backend.cpu import bfloat16_instructions, cpu_identity, cpu_name, instruction_sets


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


def test_processors_of_one_name_are_told_apart(tmp_path):
    file = tmp_path / "cpuinfo"
    lines = "model name : A Chip: 3 GHz\ncpu family : {}\nmodel : 17\nstepping : 1\n\nmodel name : another\n"
    found = []
    for family in (25, 26):
        file.write_text(lines.format(family))
        found.append(cpu_identity(file))
    assert found[0] == "A Chip: 3 GHz, cpu family 25, model 17, stepping 1" != found[1]
    assert cpu_identity(tmp_path / "none") == platform.machine()


def test_only_decisive_instructions_that_the_cpu_has_are_named(monkeypatch):
    has = {"avx2": True, "avx512_f": False, "sse": True, "amx_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert instruction_sets() == ["avx2", "amx_bf16"]
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert instruction_sets() == []
