r"""safetensors: what the library wrote is read and the other way round; a header that lies is caught."""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ldm.checkpoints import safetensors_file as module
from ldm.checkpoints.safetensors_file import DTYPES, map_tensors, read_metadata, write_safetensors
from ldm.errors import LdmError
from tests.checkpoints.made import raw_safetensors

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def put(tmp_path, data: bytes):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    return path


def some_tensors() -> dict[str, torch.Tensor]:
    made = {str(dtype): (torch.arange(6).reshape(2, 3) % 2).to(dtype) for dtype in DTYPES}
    return made | {"scalar": torch.tensor(2.5), "none": torch.ones(0, 3), "slice": torch.arange(9.0)[::2]}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.double(), b.double())


def test_what_the_library_wrote_is_read_the_same(tmp_path):
    tensors = {name: t.contiguous() for name, t in some_tensors().items()}
    save_file(tensors, tmp_path / "x.safetensors", {"a": "b"})
    read = map_tensors(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys() and all(same(read[name], tensors[name]) for name in tensors)
    assert read_metadata(tmp_path / "x.safetensors") == {"a": "b"}


def test_what_we_wrote_is_read_by_the_library(tmp_path):
    tensors = some_tensors()
    write_safetensors(tmp_path / "x.safetensors", tensors, {"a": "b"})
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys() and all(same(read[name], tensors[name]) for name in tensors)


def test_another_dtype_is_written_on_request(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a": torch.tensor([1 / 3])}, dtype=torch.float16)
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1365 / 4096]


def test_a_file_by_hand(tmp_path):
    # 1.0 is 00 00 80 3f in little-endian float32, 2.0 is 00 00 00 40.
    path = put(tmp_path, raw_safetensors({"a": ENTRY}, bytes.fromhex("0000803f00000040")))
    assert map_tensors(path)["a"].tolist() == [1.0, 2.0]


def test_numbers_at_an_odd_place_are_read(tmp_path):
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": ENTRY | {"data_offsets": [1, 9]},
    }
    path = put(tmp_path, raw_safetensors(header, b"\x07" + bytes.fromhex("0000803f00000040")))
    read = map_tensors(path)
    assert read["a"].tolist() == [7] and read["b"].tolist() == [1.0, 2.0]
    assert read["b"].data_ptr() % 4  # it was not copied


def test_to_change_a_mapped_tensor_leaves_the_file_as_it_is(tmp_path):
    path = put(tmp_path, raw_safetensors({"a": ENTRY}, bytes(8)))
    map_tensors(path)["a"].add_(1)
    assert map_tensors(path)["a"].tolist() == [0.0, 0.0]


def test_mapping_takes_no_memory_of_its_own(tmp_path):
    path = tmp_path / "x.safetensors"
    with open(path, "wb") as file:  # a hole of 8 GB, of which no byte is on the disk
        size = 8_000_000_000
        file.write(raw_safetensors({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}))
        file.truncate(file.tell() + size)
    assert map_tensors(path)["a"][-1] == 0


LIES = {
    "empty": (b"", "it is empty"),
    "few bytes": (b"\x01\x02", "only 2 bytes long"),
    "absurd length": (
        raw_safetensors(b"{}", length=2**60),
        "announces a header of 1,152,921,504,606,846,976",
    ),
    "cut in the header": (raw_safetensors({"a": ENTRY})[:20], "ends within its header, after 20 bytes"),
    "cut in the data": (raw_safetensors({"a": ENTRY}, bytes(7)), "the download was cut short"),
    "more data": (raw_safetensors({"a": ENTRY}, bytes(9)), "or something was added"),
    "overlap": (raw_safetensors({"a": ENTRY, "b": ENTRY}, bytes(8)), "invalid offset for tensor `[ab]`"),
    "gap": (
        raw_safetensors({"a": ENTRY, "b": ENTRY | {"data_offsets": [9, 17]}}, bytes(17)),
        "invalid offset for tensor `b`",
    ),
    "negative": (raw_safetensors({"a": ENTRY | {"data_offsets": [-8, 0]}}), r"integer `-8`"),
    "backwards": (raw_safetensors({"a": ENTRY | {"data_offsets": [8, 0]}}, bytes(8)), "invalid offset"),
    "one offset": (raw_safetensors({"a": ENTRY | {"data_offsets": [8]}}, bytes(8)), "invalid length 1"),
    "beyond": (
        raw_safetensors({"a": ENTRY | {"data_offsets": [2**62, 2**62 + 8]}}, bytes(8)),
        "invalid offset for tensor `a`",
    ),
    "shape": (raw_safetensors({"a": ENTRY | {"shape": [3]}}, bytes(8)), "invalid shape"),
    "huge shape": (raw_safetensors({"a": ENTRY | {"shape": [2**62] * 8}}, bytes(8)), "overflow"),
    "huge shape of nothing": (
        raw_safetensors({"a": ENTRY | {"shape": [0, 2**62, 2], "data_offsets": [0, 0]}}),
        "overflow",
    ),
    "a side beyond 64 bits": (
        raw_safetensors({"a": ENTRY | {"shape": [0, 2**64 - 1], "data_offsets": [0, 0]}}),
        "reshape",
    ),
    "float": (raw_safetensors({"a": ENTRY | {"shape": [2.0]}}, bytes(8)), "floating point `2.0`"),
    "true": (raw_safetensors({"a": ENTRY | {"shape": [True, 2]}}, bytes(8)), "boolean `true`"),
    "dtype": (
        raw_safetensors({"a": ENTRY | {"dtype": "F4"}}, bytes(8)),
        "invalid shape, data type",
    ),
    "dtype no text": (raw_safetensors({"a": ENTRY | {"dtype": [1]}}, bytes(8)), "expected string"),
    "no offsets": (
        raw_safetensors({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
        "missing field `data_offsets`",
    ),
    "a number": (raw_safetensors({"a": 3}), "integer `3`"),
    "a list": (raw_safetensors([ENTRY]), "invalid type: sequence"),
    "no JSON": (raw_safetensors(b"{'a': 1}"), "invalid JSON"),
    "no text": (raw_safetensors(b"{\xff}"), "invalid UTF-8"),
    "nested": (raw_safetensors(b"[" * 200_000), "invalid type: sequence"),
    "half a character": (raw_safetensors(b'{"\\ud800": {}}'), "hex escape"),
    "half a character in metadata": (
        raw_safetensors({"__metadata__": {"a": "\ud800"}}),
        "hex escape",
    ),
    "metadata": (raw_safetensors({"__metadata__": {"a": 1}}), "expected a string"),
}


def test_numbers_of_a_type_that_models_do_not_have_are_refused(tmp_path):
    entry = {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}
    with pytest.raises(LdmError, match="'a' has the type torch.float4.*none of F64"):
        map_tensors(put(tmp_path, raw_safetensors({"a": entry}, bytes(2))))


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_an_error_that_says_how(tmp_path, lie):
    data, message = LIES[lie]
    with pytest.raises(LdmError, match=f"x.safetensors is damaged .*{message}"):
        map_tensors(put(tmp_path, data))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(LdmError, match="cannot read .*nowhere.*No such file"):
        read_metadata(tmp_path / "nowhere")


def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.ones(2)})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(LdmError, match="cannot write .*No space left on device; give another place"):
        write_safetensors(path, {"a": torch.zeros(2)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.safetensors"]


GOOD = raw_safetensors(
    {"__metadata__": {"a": "b"}, "a": ENTRY, "b": {"dtype": "I64", "shape": [1, 1], "data_offsets": [8, 16]}},
    bytes(16),
)


@pytest.mark.long
@settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-3, 3),
)
def test_a_mutated_header_is_read_or_refused_and_never_breaks_the_reader(tmp_path_factory, changes, longer):
    data = bytearray(GOOD)
    for place, byte in changes:
        data[place] = byte
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(bytes(data[: len(data) + longer]) + bytes(max(0, longer)))
    try:
        tensors = map_tensors(path)
    except LdmError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) <= path.stat().st_size
