r"""Pickles and zip archives written by hand, right or wrong: enough to say "a tensor of this storage and stride"."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

START = b"\x80\x02"


def glob(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(number: int) -> bytes:
    return b"\x8a\x10" + number.to_bytes(16, "little", signed=True)


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(name: str, *arguments: bytes) -> bytes:
    return glob(name) + group(*arguments) + b"R"


def storage(count: int = 4, kind: str = "torch.FloatStorage", record: str = "0") -> bytes:
    return group(text("storage"), glob(kind), text(record), text("cpu"), whole(count)) + b"Q"


def tensor(numbers: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    sizes = [group(*map(whole, shape)), group(*map(whole, strides))]
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", numbers, whole(offset), *sizes, b"\x89", hooks)


def table(**items: bytes) -> bytes:
    r"""The program of a dict."""
    return START + b"}(" + b"".join(text(name) + value for name, value in items.items()) + b"u."


@dataclass
class Entry:
    r"""One record of an archive; whatever is given here instead of None is written, true or not."""

    name: str
    data: bytes
    crc: int | None = None
    flags: int = 0
    method: int = 0
    offset: int | None = None  # in the directory
    listed: int | None = None  # its size in the directory
    headed: int | None = None  # its size in its header
    headed_name: str | None = None
    extra: bytes = b""
    comment: bytes = b""
    after: bytes = field(default=b"")  # what follows it


def zip_archive(entries: list[Entry], wide: bool = False, **end) -> bytes:
    r"""An archive of them; `end` changes fields of the directory's end, `wide` also writes that in 64 bits."""
    body, directory = b"", b""
    for e in entries:
        crc = zlib.crc32(e.data) if e.crc is None else e.crc
        headed = len(e.data) if e.headed is None else e.headed
        listed = len(e.data) if e.listed is None else e.listed
        name, short = e.name.encode(), (e.headed_name or e.name).encode()
        offset = len(body) if e.offset is None else e.offset
        body += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, e.flags, e.method, 0, 33, crc, headed, headed, len(short), 0
        )
        body += short + e.data + e.after
        lengths = (len(name), len(e.extra), len(e.comment))
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, e.flags, e.method, 0, 33, crc, listed, listed, *lengths, 0, 0, 0, offset
        )  # fmt: skip
        directory += name + e.extra + e.comment
    said = {
        "disk": 0,
        "here": len(entries),
        "count": len(entries),
        "size": len(directory),
        "start": len(body),
    } | end
    tail = b""
    if wide:
        numbers = [said[name] for name in ("here", "count", "size", "start")]
        tail = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, *numbers)
        tail += struct.pack("<4sIQI", b"PK\6\7", 0, said.get("where", len(body) + len(directory)), 1)
    narrow = end.get("narrow", [said[name] for name in ("here", "count", "size", "start")])
    note = end.get("comment", b"")
    last = struct.pack("<4s4H2IH", b"PK\5\6", said["disk"], 0, *narrow, len(note)) + note
    return body + end.get("between", b"") + directory + tail + last


def checkpoint(path: Path, program: bytes, numbers: bytes = bytes(16)) -> Path:
    r"""A checkpoint with this pickle and one record of numbers."""
    entries = [
        Entry("archive/data.pkl", program),
        Entry("archive/data/0", numbers),
        Entry("archive/version", b"3\n"),
    ]
    path.write_bytes(zip_archive(entries))
    return path
