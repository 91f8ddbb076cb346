r"""A file's format is told by its first bytes, and impostors by theirs."""

import json
import tarfile

import pytest
import torch

from ldm.checkpoints.formats import IMPOSTORS, read_file
from ldm.checkpoints.safetensors_file import write_safetensors
from ldm.errors import LdmError
from tests.checkpoints.made import raw_safetensors

STATE = {"a": torch.arange(3.0)}


def test_the_name_does_not_matter(tmp_path):
    torch.save(STATE, tmp_path / "x.model")
    write_safetensors(tmp_path / "x.ckpt", STATE)
    for name in ("x.model", "x.ckpt"):
        assert torch.equal(read_file(tmp_path / name)["a"], STATE["a"])


def test_a_pickle_under_the_name_of_the_safe_format_is_an_error(tmp_path):
    torch.save(STATE, tmp_path / "x.safetensors")
    with pytest.raises(LdmError, match="is a pickle under the name of another format; rename it"):
        read_file(tmp_path / "x.safetensors")


def test_a_header_whose_length_looks_like_a_pickle_is_still_a_header(tmp_path):
    # A length of 0x0280 = 640 bytes is written 80 02 00 ...: the first bytes of a pickle.
    header = {"__metadata__": {"a": ""}, "a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}
    header["__metadata__"]["a"] = "x" * (640 - len(json.dumps(header)))
    numbers = STATE["a"].numpy().tobytes()
    (tmp_path / "x").write_bytes(raw_safetensors(header, numbers))
    assert (tmp_path / "x").read_bytes()[:2] == b"\x80\x02"
    assert torch.equal(read_file(tmp_path / "x")["a"], STATE["a"])


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "x.ckpt").touch()
    with pytest.raises(LdmError, match="x.ckpt is empty; fetch it again"):
        read_file(tmp_path / "x.ckpt")


@pytest.mark.parametrize("first", IMPOSTORS)
def test_impostors_are_named(tmp_path, first):
    (tmp_path / "x.ckpt").write_bytes(first + bytes(600))
    with pytest.raises(LdmError, match="x.ckpt is an? "):
        read_file(tmp_path / "x.ckpt")


def test_a_tar_is_named(tmp_path):
    (tmp_path / "a").write_text("a")
    with tarfile.open(tmp_path / "x.ckpt", "w") as archive:
        archive.add(tmp_path / "a", "a")
    with pytest.raises(LdmError, match="is a tar archive, the format of torch before"):
        read_file(tmp_path / "x.ckpt")


def test_what_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(LdmError, match="cannot read"):
        read_file(tmp_path)
