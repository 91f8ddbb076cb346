r"""What it was measured on."""

import platform

import torch

from ldm.lab.bench.machine import machine, processor


def test_the_processor_goes_by_the_name_that_linux_gives(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nmodel name\t: A Chip: 3 GHz\nflags\t: amx\nmodel name\t: A Chip: 3 GHz\n"
    )
    assert processor(file) == "A Chip: 3 GHz"
    assert processor(tmp_path / "none") == (platform.processor() or "unknown")


def test_machine_versions_and_threads_are_told():
    found = machine()
    assert found["torch"] == torch.__version__ and found["threads"] == torch.get_num_threads()
    assert found["cores"] > 0 and found["bfloat16"] in ("AMX", "AVX-512", "none") and "processor" in found
