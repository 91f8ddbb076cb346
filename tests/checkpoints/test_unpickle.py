r"""The machine that runs a pickle: tensors are noted, nothing is called, and the work is bounded."""

import io
import pickle
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from ldm.checkpoints import unpickle
from ldm.checkpoints.unpickle import LEFTOVER, Parameters, Storage, View, run
from tests.checkpoints.handwritten import START, call, group, storage, table, tensor, text, whole


def program_of(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    with zipfile.ZipFile(buffer) as opened:
        return opened.read("archive/data.pkl")


def test_plain_values_come_out_as_they_went_in():
    thing = {
        "a": [1, -2, 300, 70000, 2**40, 2.5, None, True, False, "text"],
        "b": (1, (2, 3), ()),
        "c": {"d": []},
    }
    assert run(pickle.dumps(thing, 2)) == thing


def test_tensors_come_out_as_views_of_records():
    base = torch.arange(24.0).reshape(4, 6)
    thing = OrderedDict(a=base, b=base[1:, ::2].T, c=torch.tensor(3, dtype=torch.int16))
    out = run(program_of(thing))
    numbers = Storage("0", torch.float32, 24)
    assert out["a"] == View(numbers, 0, (4, 6), (6, 1)) and out["b"] == View(numbers, 6, (3, 3), (2, 6))
    assert out["c"] == View(Storage("1", torch.int16, 1), 0, (), ())


def test_a_parameter_is_its_tensor_and_attributes_of_a_dict_are_passed_over():
    module = torch.nn.Linear(2, 3)
    state = module.state_dict(keep_vars=True)
    assert state._metadata
    assert run(program_of(state))["weight"].shape == (3, 2)


def test_a_parameter_dict_has_its_parameters_inside():
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 3))})
    found = run(program_of({"string_to_param": parameters}))["string_to_param"]
    assert isinstance(found, Parameters) and found.inside["*"].shape == (2, 3)


def test_leftovers_are_made_of_nothing():
    program = pickle.dumps({"score": np.float64(0.25), "bytes": b"\xff"}, 2)
    assert run(program) == {"score": LEFTOVER, "bytes": LEFTOVER}


def test_keys_that_are_no_text_are_left_out():
    assert run(pickle.dumps({1: 2, (3,): 4, "a": 5}, 2)) == {"a": 5}


FOUR = storage(4)
NUMBERS = {
    "a stride of 0": (storage(1), 0, (320, 320, 3, 3), (0, 0, 0, 0)),
    "beyond the end": (FOUR, 1, (2, 2), (2, 1)),
    "beyond the end by a stride": (FOUR, 0, (2, 2), (3, 1)),
    "numbers twice": (FOUR, 0, (3, 3), (0, 1)),
    "an offset below 0": (FOUR, -1, (2,), (1,)),
    "a side below 0": (FOUR, 0, (-1, -1), (1, 1)),
    "a stride below 0": (FOUR, 3, (2,), (-1,)),
    "fewer strides": (FOUR, 0, (2, 2), (1,)),
    "nine axes": (FOUR, 0, (1,) * 9, (1,) * 9),
    "empty, and too large all the same": (FOUR, 0, (0, 2**40, 2**40), (1, 1, 1)),
    "a huge side": (FOUR, 0, (2**100,), (1,)),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_a_tensor_beyond_its_storage_is_refused(what):
    with pytest.raises(ValueError, match="its pickle builds a tensor"):
        run(table(a=tensor(*NUMBERS[what])))


def test_a_tensor_within_its_storage_is_not():
    for offset, shape, strides in [
        (0, (2, 2), (2, 1)),
        (3, (), ()),
        (2, (2, 1, 0), (1, 9, 9)),
        (0, (1, 4), (0, 1)),
    ]:
        assert run(table(a=tensor(FOUR, offset, shape, strides)))["a"].shape == shape


REDUCED = "torch._utils._rebuild_tensor_v2"
REFUSED = {
    "no end": START + b"}",
    "empty": b"",
    "no opcode": START + b"\xff.",
    "an empty stack": START + b".",
    "below a mark": START + b"}(" + b"s.",
    "no mark": START + b"}t.",
    "no memo": START + b"h\x07.",
    "memo of nothing": START + b"q\x00N.",
    "items into a list": START + b"](NNu.",
    "half an item": table() [:-2] + b"Nu.",
    "append to a dict": START + b"}Na.",
    "a call of a text": START + text("a") + b")R.",
    "a call of an unknown": START + call("os.system", text("a")) + b".",
    "a call with a list": START + b"ccollections\nOrderedDict\n]R.",
    "an OrderedDict of pairs": START + call("collections.OrderedDict", b"]") + b".",
    "too few arguments": START + call(REDUCED, storage()) + b".",
    "a tensor of a tensor": table(a=tensor(tensor(FOUR, 0, (), ()), 0, (), ())),
    "a parameter of nothing": START + call("torch._utils._rebuild_parameter", b"N", b"N", b"N") + b".",
    "a storage of an unknown type": table(a=storage(4, "torch.storage.UntypedStorage")),
    "a storage of -1": table(a=storage(-1)),
    "a module": START + group(text("module"), b"N") + b"Q.",
    "another encoding": START + call("_codecs.encode", text("61"), text("hex_codec")) + b".",
    "attributes of a text": START + text("a") + b"}b.",
    "a long number": START + b"\x8b\x04\x00\x00\x00abcd.",
    "protocol 4": pickle.dumps({"a": 1}, 4),
    "a function of the first protocol": b"(ios\nsystem\n.",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_any_other_program_is_refused(what):
    with pytest.raises(ValueError):
        run(REFUSED[what])


def test_a_program_may_be_as_long_as_the_limit_and_no_longer(monkeypatch):
    monkeypatch.setattr(unpickle, "MOST_STEPS", 100)
    # START, then a value and its tuple around it again and again, then STOP.
    assert run(START + b"N" + b"\x85" * 97 + b".")
    with pytest.raises(ValueError, match="more than 100 instructions"):
        run(START + b"N" + b"\x85" * 98 + b".")


def doubled(times: int) -> bytes:
    return b"N" + b"q\x00h\x00h\x00\x86" * times


BOMBS = {
    # Each takes Python's or torch's machine for ever, or all memory, or its C stack.
    "a key of tuples of tuples": START + b"}" + doubled(60) + b"Ns.",
    "a key of tuples ten thousand deep": START + b"})" + b"\x85" * 10_000 + b"Ns.",
    "a text encoded again and again": START + b"}" + text("a" * 10**6) + b"q\x000" + b"".join(
        call("_codecs.encode", b"h\x00", text("latin1")) for _ in range(2000)) + b".",
    "one long tuple of arguments, used again": START + b"((" + b"N" * 10_000 + b"tq\x00" + b"".join(
        b"cnumpy\ndtype\nh\x00R" for _ in range(2_000)) + b"t.",
    "lists in lists": START + b"]" * 10_000 + b"a" * 9_999 + b".",
}  # fmt: skip


@pytest.mark.parametrize("what", BOMBS)
def test_no_short_program_takes_long(what):
    began = time.process_time()
    try:
        run(BOMBS[what])
    except ValueError:
        pass
    assert time.process_time() - began < 2


def test_the_hand_written_tensor_is_what_torch_writes():
    theirs = run(program_of({"a": torch.ones(2, 2)}))
    assert run(table(a=tensor(storage(4), 0, (2, 2), (2, 1)))) == theirs
    assert run(START + group(whole(-5), whole(2**60)) + b".") == (-5, 2**60)
