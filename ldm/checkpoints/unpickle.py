r"""A pickle is a program for a small machine with a stack. This is such a machine, and it calls nothing.

To say that "b" is a tensor of two numbers, torch writes about forty instructions. Shortened, with the stack after each:

    EMPTY_DICT                                    {}
    BINUNICODE  b                                 {} "b"
    GLOBAL      torch._utils _rebuild_tensor_v2   {} "b" <global>
    ...         storage, offset, size, strides    {} "b" <global> (storage, 0, (2,), (1,), ...)
    REDUCE      "call it"                         {} "b" <view>
    SETITEM                                       {"b": <view>}
    STOP

Python's own machine looks the global up and calls it, whatever it is. This one keeps its name, and "calling" one of the
few that a checkpoint needs only records what was asked for. Nothing is imported, nothing of torch is touched, and the
numbers are not read. A program that does anything else ends in a `ValueError`.

The work is bounded by the length of the program: no instruction copies more than it takes off the stack. (In Python's
machine a few hundred bytes are enough to write 16 GB, or to compute for years.)

Source: CPython's Lib/pickletools.py, which describes every instruction.
"""

import math
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MOST_STEPS = 300_000  # instructions; a checkpoint of Stable Diffusion has 60,000, with its averages
MOST_ARGUMENTS = 8
MOST_AXES = 8

DTYPES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Global:
    """A function or class, by name alone."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A row of numbers: which record of the archive has them, and how many there are."""

    record: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: how to read it from a storage. It stays within it, and claims no number twice."""

    storage: Storage
    offset: int  # in numbers, as the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Parameters:
    """A `ParameterDict` of torch, in which old files of textual inversion hold their vectors."""

    def __init__(self) -> None:
        self.inside: dict[str, Any] = {}


class Leftover:
    """What the program made that is not a tensor, and that is never used here."""


LEFTOVER = Leftover()


def run(program: bytes) -> Any:
    """What a program builds: dicts, lists, tuples, texts and numbers, and a `View` for each tensor.

    It may call the globals of `CALLS`, and those of `LEFTOVERS` to no effect. Dict keys that are not texts are left
    out. Raises `ValueError` for a program that is damaged, too long, or does anything else.
    """
    machine = _Machine()
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        if steps == MOST_STEPS:
            raise ValueError(f"its pickle has more than {MOST_STEPS:,} instructions")
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise ValueError("its pickle has no end")


class _Machine:
    """The stack, the stacks below the marks, and the memo of values to be used again."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("its pickle takes from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.below:
            raise ValueError("its pickle goes back to a mark that it never set")
        items, self.stack = self.stack, self.below.pop()
        return items

    def top(self, kind: Any) -> Any:
        """The value on top, which stays there."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError("its pickle puts something into what cannot hold it")
        return self.stack[-1]

    def step(self, name: str, argument: Any) -> None:
        push = self.stack.append
        match name:
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                push(argument)
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise ValueError(f"its pickle recalls value {argument}, which it never kept")
                push(self.memo[argument])
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top(object)
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "TUPLE":
                items = self.pop_to_mark()
                self.stack.append(tuple(items))  # `push` belongs to the stack above the mark
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(reversed([self.pop() for _ in range(int(name[-1]))])))
            case "GLOBAL":
                push(Global(argument.replace(" ", ".", 1)))
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                push(self.call(function, arguments))
            case "NEWOBJ":  # for classes only
                arguments, kind = self.pop(), self.pop()
                if getattr(kind, "name", None) not in {"collections.OrderedDict", PARAMETERS, *LEFTOVERS}:
                    raise ValueError("its pickle makes an object of what is not a class")
                push(self.call(kind, arguments))
            case "BINPERSID":
                push(_storage(self.pop()))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                push({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case "SETITEM" | "SETITEMS":
                items = self.pop_to_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
                if len(items) % 2:
                    raise ValueError("its pickle puts a name without a value into a dict")
                # Only texts as keys: hashing a tuple of tuples of ... takes as long as its maker likes.
                pairs = zip(items[::2], items[1::2])
                self.top(dict).update({key: value for key, value in pairs if isinstance(key, str)})
            case "APPEND" | "APPENDS":
                items = self.pop_to_mark() if name == "APPENDS" else [self.pop()]
                self.top(list).extend(items)
            case "BUILD":  # attributes of an OrderedDict or a leftover: not needed
                state, made = self.pop(), self.top((OrderedDict, Leftover, Parameters))
                inside = state.get("_parameters") if isinstance(state, dict) else None
                if isinstance(made, Parameters) and isinstance(inside, dict):
                    made.inside = inside
            case "SHORT_BINSTRING":
                push(argument.encode("latin1").decode())  # Python 2's texts, read as torch reads them
            case "PROTO" if argument <= 5:
                pass
            case _:
                raise ValueError(f"its pickle has the instruction {name}, which torch does not write")

    def call(self, function: Any, arguments: Any) -> Any:
        """What a call would make. Raises `ValueError` for a global that is not known, and for anything else."""
        name = function.name if isinstance(function, Global) else ""
        if name in LEFTOVERS and isinstance(arguments, tuple):
            return LEFTOVER
        if name not in CALLS or not isinstance(arguments, tuple):
            raise ValueError(f"its pickle calls {name[:60] or 'what is no function'}")
        if len(arguments) > MOST_ARGUMENTS:
            raise ValueError(f"its pickle calls {name} with {len(arguments):,} arguments")
        try:
            return CALLS[name](*arguments)
        except TypeError as error:
            raise ValueError(f"its pickle calls {name} with the wrong arguments") from error


def _whole(*numbers: Any) -> bool:
    return all(type(n) is int and 0 <= n < 2**62 for n in numbers)


def _storage(identity: Any) -> Storage:
    """A tensor's numbers: ("storage", their type, the name of their record, a device, how many they are)."""
    match identity:
        case ("storage", Global(name), str(record), _, count) if name in DTYPES and _whole(count):
            return Storage(record, DTYPES[name], count)
    raise ValueError("its pickle asks for something that is not a storage of numbers")


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, _meta: Any = None
) -> View:
    tuples = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)
    if not isinstance(storage, Storage) or not tuples or not _whole(offset, *shape, *strides):
        raise ValueError("its pickle builds a tensor from something else than a storage and sizes")
    # torch multiplies the other sides of an empty tensor, too.
    if len(shape) > MOST_AXES or math.prod(side or 1 for side in shape) >= 2**62:
        raise ValueError(f"its pickle builds a tensor of shape {list(shape)}")
    # No stride of 0 along a side longer than 1, and the like: those would claim more numbers than there are.
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if math.prod(shape) and (math.prod(shape) > storage.count or last >= storage.count):
        raise ValueError(
            f"its pickle builds a tensor of shape {list(shape)}, strides {list(strides)} and offset {offset} out of "
            f"{storage.count:,} numbers"
        )
    return View(storage, offset, shape, strides)


def _parameter(view: Any, _grad: Any, _hooks: Any) -> View:
    if not isinstance(view, View):
        raise ValueError("its pickle builds a parameter from what is not a tensor")
    return view


def _encoded(text: Any, encoding: Any) -> Leftover:
    """Bytes, as the second protocol writes them. Only leftovers have any, so they are not made."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("its pickle encodes a text otherwise than as latin1")
    return LEFTOVER


PARAMETERS = "torch.nn.modules.container.ParameterDict"
CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda: OrderedDict(),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encoded,
    PARAMETERS: lambda: Parameters(),
}
# Leftovers of training that need not be opened to use the weights; calling one makes a `LEFTOVER`.
LEFTOVERS = {
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"),  # numpy 1 and 2
    *("argparse.Namespace", "torch.Size", "torch.device"),
    *("__builtin__.set", "__builtin__.frozenset", "builtins.set", "builtins.frozenset"),  # in Python 2 and 3
}
