r"""`.ckpt` files: every global is named, none is run, and only tensors come out."""

import argparse
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ldm.checkpoints import pickle_file as pickled
from ldm.checkpoints.pickle_file import LEFTOVER, REFUSED, TENSORS, globals_of, list_globals, read_pickled
from ldm.errors import LdmError
from tests.checkpoints.handwritten import (
    START,
    Entry,
    call,
    checkpoint,
    storage,
    table,
    tensor,
    text,
    zip_archive,
)
from tests.checkpoints.made import Evil, evil_zip

STATE = OrderedDict({"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]).half()})


@pytest.fixture
def trace(tmp_path):
    r"""A file that a payload would make if it ran."""
    return tmp_path / "it_ran"


def payload(trace) -> Evil:
    return Evil(os.system, f"touch {trace}")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3, "hyper": [1, "x"]}])
def test_tensors_come_back_whether_or_not_they_lie_under_state_dict(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "x.ckpt")
    read = read_pickled(tmp_path / "x.ckpt")
    assert read.keys() == STATE.keys() and all(torch.equal(read[n], STATE[n]) for n in STATE)
    assert all(read[name].dtype == STATE[name].dtype for name in STATE)


def test_parameters_come_back_as_plain_tensors(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(keep_vars=True), tmp_path / "x.ckpt")
    assert not any(t.requires_grad for t in read_pickled(tmp_path / "x.ckpt").values())


def test_the_payload_would_leave_a_trace_if_it_were_run(tmp_path, trace):
    subprocess.run(
        [sys.executable, "-c", f"import pickle; pickle.loads({pickle.dumps(payload(trace))!r})"], check=True
    )
    assert trace.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_call_of_os_system_is_named_and_not_run(tmp_path, trace, protocol):
    path = evil_zip(tmp_path / "x.ckpt", {"state_dict": payload(trace)}, protocol)
    [(name, verdict)] = globals_of(path).items()
    assert name.startswith("posix.system") and verdict == REFUSED
    with pytest.raises(LdmError, match="asks to run posix.system.*refused, and nothing was run"):
        read_pickled(path)
    assert not trace.exists()


@pytest.mark.parametrize("raw", [pickle.dumps, lambda thing: pickle.dumps(thing, 0)])
def test_a_bare_pickle_is_refused_too(tmp_path, trace, raw):
    (tmp_path / "x.ckpt").write_bytes(raw(payload(trace)))
    with pytest.raises(LdmError):
        read_pickled(tmp_path / "x.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name", ["ldm.pipeline.LatentDiffusion", "ldm.models.diffusion.ddpm.LatentDiffusion"]
)
def test_a_class_of_a_package_named_ldm_is_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    program = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b")\x81."
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    before = set(sys.modules)
    with pytest.raises(LdmError, match=f"asks to run {name}: refused"):
        read_pickled(tmp_path / "x.ckpt")
    assert set(sys.modules) == before


def test_names_behind_the_memo_and_other_ways_to_ask_are_found():
    # Protocol 4 with both names fetched from the memo; INST of protocol 0; an extension.
    memo = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93."
    assert list_globals(memo) == ["os.system (protocol 4)"]
    assert list_globals(b"(ios\nsystem\n.") == ["os.system"]
    assert list_globals(b"\x80\x02\x82\x07.") == ["extension 7"]
    assert list_globals(b"\x80\x02cos\nsystem\n") == ["os.system"]  # without an end


def real_checkpoint(path):
    r"""What Lightning left in the checkpoints of Stable Diffusion 1, under the names of numpy 1."""
    stub = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
    module = type(sys)("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = stub
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    sys.modules |= {names[0]: type(sys)(names[0]), names[1]: type(sys)(names[1]), names[2]: module}
    try:
        best = {"best_model_score": np.float64(0.25), "seen": b"\x00\xff"}
        torch.save({"state_dict": STATE, "callbacks": {stub: best}, "global_step": 470000}, path)
    finally:
        for name in names:
            del sys.modules[name]
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            if name.endswith("data.pkl"):
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            archive.writestr(name, data)
    return path


def test_leftovers_of_training_are_named_and_left_out(tmp_path):
    path = real_checkpoint(tmp_path / "x.ckpt")
    verdicts = globals_of(path)
    assert verdicts["pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"] == LEFTOVER
    assert verdicts["numpy.core.multiarray.scalar"] == verdicts["numpy.dtype"] == LEFTOVER
    assert verdicts["torch._utils._rebuild_tensor_v2"] == verdicts["torch.HalfStorage"] == TENSORS
    assert set(verdicts.values()) == {LEFTOVER, TENSORS}
    read = read_pickled(path)
    assert read.keys() == STATE.keys() and torch.equal(read["a.weight"], STATE["a.weight"])


def test_sets_sizes_and_options_of_a_training_program_are_left_out_too(tmp_path):
    options = argparse.Namespace(lr=1e-4, layers={1, 2}, frozen=frozenset("ab"))
    left = {"options": options, "size": torch.Size([2]), "device": torch.device("cpu"), "seen": {"x"}}
    torch.save({"state_dict": STATE, **left}, tmp_path / "x.ckpt")
    verdicts = globals_of(tmp_path / "x.ckpt")
    assert verdicts["argparse.Namespace"] == verdicts["__builtin__.set"] == LEFTOVER
    assert read_pickled(tmp_path / "x.ckpt").keys() == STATE.keys()


def test_a_zip_that_is_no_checkpoint_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("model.safetensors", "...")
    with pytest.raises(LdmError, match="zip archive but no checkpoint: of 1 files, 0 are a data.pkl"):
        read_pickled(tmp_path / "x.zip")


def test_a_compressed_archive_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + bytes(100_000))
    with pytest.raises(LdmError, match="is compressed"):
        read_pickled(tmp_path / "x.ckpt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_an_error(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / "x.ckpt"))
    with pytest.raises(LdmError, match="no checkpoint|asks to run"):
        read_pickled(tmp_path / "x.ckpt")


def test_a_record_may_be_shared_and_viewed_in_any_way(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {"a": base, "b": base, "c": base[1:, ::2].T, "d": base[2, 3], "e": torch.empty(0, 3)}
    torch.save(state, tmp_path / "x.ckpt")
    read = read_pickled(tmp_path / "x.ckpt")
    assert all(torch.equal(read[name], state[name]) for name in state)
    assert read["a"].data_ptr() == read["b"].data_ptr() and read["c"].stride() == state["c"].stride()


def test_writing_to_a_tensor_changes_a_copy_and_never_the_file(tmp_path):
    torch.save(STATE, tmp_path / "x.ckpt")
    read_pickled(tmp_path / "x.ckpt")["a.weight"].add_(1)
    assert torch.equal(read_pickled(tmp_path / "x.ckpt")["a.weight"], STATE["a.weight"])


def test_many_names_for_the_same_numbers_are_refused(tmp_path):
    # Each of the tensors lies within its record; together they would be 200 times the file.
    size, count = 1 << 18, 300
    many = {f"t{i}": tensor(storage(size), 0, (size,), (1,)) for i in range(count)}
    path = checkpoint(tmp_path / "x.ckpt", table(**many), bytes(4 * size))
    with pytest.raises(LdmError, match="and its tensors claim 314,572,800: they share their numbers"):
        read_pickled(path)
    few = checkpoint(tmp_path / "y.ckpt", table(**dict(list(many.items())[:4])), bytes(4 * size))
    assert len(read_pickled(few)) == 4


def test_a_record_that_is_not_there_or_too_short_is_an_error(tmp_path):
    path = checkpoint(tmp_path / "x.ckpt", table(a=tensor(storage(4, record="7"), 0, (4,), (1,))))
    with pytest.raises(LdmError, match="damaged .its record '7' is missing"):
        read_pickled(path)
    path = checkpoint(tmp_path / "x.ckpt", table(a=tensor(storage(4), 0, (4,), (1,))), bytes(15))
    with pytest.raises(LdmError, match="damaged .its record '0' has 15 bytes of 16"):
        read_pickled(path)


def test_attributes_of_a_dict_are_passed_over(tmp_path):
    # {"get": 1} put into the __dict__ of an OrderedDict was a bare TypeError.
    program = START + b"ccollections\nOrderedDict\n)R}X\x03\x00\x00\x00getK\x01sb."
    with pytest.raises(LdmError, match="has no tensors with names"):
        read_pickled(checkpoint(tmp_path / "x.ckpt", program))


def test_what_is_checked_is_what_is_used_though_the_file_is_replaced_in_between(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "x.ckpt", table(a=tensor(storage(4), 0, (4,), (1,))), b"right---" * 2)
    other = checkpoint(tmp_path / "y.ckpt", START + call("os.system", text("true")) + b".", b"wrong---" * 2)

    def swap(program):
        if other.exists():
            os.replace(other, path)
        return list_globals(program)

    monkeypatch.setattr(pickled, "list_globals", swap)
    read = read_pickled(path)
    assert bytes(read["a"].view(torch.uint8).tolist()) == b"right---" * 2 and not other.exists()


def test_an_archive_of_two_directories_is_refused(tmp_path):
    # zipfile reads the second, torch's own reader the first.
    good = zip_archive([Entry("archive/data.pkl", table(a=tensor(storage(4), 0, (4,), (1,))))])
    evil = zip_archive([Entry("archive/data.pkl", START + call("os.system", text("true")) + b".")])
    (tmp_path / "x.ckpt").write_bytes(evil[:-22] + good)
    with pytest.raises(LdmError, match="damaged .its directory is not where it should be"):
        read_pickled(tmp_path / "x.ckpt")
    with pytest.raises(LdmError, match="damaged .its directory is not where it should be"):
        globals_of(tmp_path / "x.ckpt")


def test_numbers_in_another_byte_order_are_an_error(tmp_path):
    entries = [Entry("a/data.pkl", table(a=tensor(storage(4), 0, (4,), (1,)))), Entry("a/data/0", bytes(16))]
    (tmp_path / "x.ckpt").write_bytes(zip_archive([*entries, Entry("a/byteorder", b"big")]))
    with pytest.raises(LdmError, match="is from a machine of another byte order"):
        read_pickled(tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").write_bytes(zip_archive([*entries, Entry("a/byteorder", b"little")]))
    assert read_pickled(tmp_path / "x.ckpt").keys() == {"a"}


def test_a_pickle_that_was_changed_is_an_error(tmp_path):
    program = table(a=tensor(storage(4), 0, (4,), (1,)))
    (tmp_path / "x.ckpt").write_bytes(
        zip_archive([Entry("a/data.pkl", program, crc=1), Entry("a/data/0", bytes(16))])
    )
    with pytest.raises(LdmError, match="its pickle is not the one that was written"):
        read_pickled(tmp_path / "x.ckpt")


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_a_device_or_a_pipe_is_an_error_at_once(tmp_path, target):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.ckpt").symlink_to(target)
    for door in (globals_of, read_pickled):
        with pytest.raises(LdmError, match="expected a regular file"):
            door(tmp_path / "x.ckpt")


def test_the_format_before_torch_1_6_is_an_error(tmp_path):
    torch.save(STATE, tmp_path / "x.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(LdmError, match="format of torch before version 1.6.*take the .safetensors"):
        read_pickled(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    ("thing", "what"), [([1], "no tensors"), ({"a": 1}, "no tensors"), ({"state_dict": 3}, "no t")]
)
def test_a_pickle_without_tensors_is_an_error(tmp_path, thing, what):
    torch.save(thing, tmp_path / "x.ckpt")
    with pytest.raises(LdmError, match=what):
        read_pickled(tmp_path / "x.ckpt")


def test_a_storage_that_claims_more_than_the_file_has_is_an_error(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "x.ckpt")
    with zipfile.ZipFile(tmp_path / "x.ckpt") as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "y.ckpt", "w") as archive:
        for name, content in entries.items():
            if name.endswith("data.pkl"):  # it says 3 twice: of the storage, and of the tensor's only axis
                assert content.count(b"K\x03") == 2
                content = content.replace(b"K\x03", b"J" + struct.pack("<i", 2**30))
            archive.writestr(name, content)
    with pytest.raises(LdmError, match="damaged"):
        read_pickled(tmp_path / "y.ckpt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "x.ckpt"
    torch.save(STATE, path)
    return path.read_bytes(), path.with_name("mutated.ckpt")


@pytest.mark.long
@settings(max_examples=1200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_of_a_mutated_archive_only_our_own_error_comes_out(saved, changes, kept):
    data, path = bytearray(saved[0]), saved[1]
    # The pickle and the directory at the end matter; the padded numbers between them do not.
    inside = [i for i in range(len(data)) if data[i]]
    for where, byte in changes:
        data[inside[int(where * len(inside))]] = byte
    path.write_bytes(data[: max(1, int(kept * len(data)))])
    try:
        read = read_pickled(path)
    except LdmError:
        return
    assert sum(t.numel() for t in read.values()) <= 2**40


@settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60))
def test_any_bytes_can_be_listed(program):
    assert all(isinstance(name, str) for name in list_globals(program))
    assert io.BytesIO(program).read() == program
