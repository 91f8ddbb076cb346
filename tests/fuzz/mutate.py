r"""Mutations: of bytes, of JSON, of pickles and of zip archives. A generator decides; the same one decides alike."""

import io
import json
import pickletools
import struct
from copy import deepcopy
from random import Random

from tests.checkpoints.handwritten import (
    START,
    Entry,
    call,
    glob,
    group,
    storage,
    table,
    tensor,
    text,
    whole,
    zip_archive,
)

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**62,
    2**63,
    2**64 - 1,
)


def flip(rng: Random, data: bytes) -> bytes:
    r"""One to five small changes, anywhere but (most often) in runs of zeros, where padding is."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        changed = _change(rng, changed)
    return bytes(changed)


def _place(rng: Random, data: bytearray) -> int:
    for _ in range(8):
        at = rng.randrange(len(data))
        if data[at]:
            break
    return at


def _change(rng: Random, data: bytearray) -> bytearray:
    if not data:
        return bytearray(rng.randbytes(rng.randrange(1, 40)))
    at = _place(rng, data)
    size = min(rng.choice((1, 2, 4, 8, 16, 64)), len(data) - at)
    match rng.randrange(9):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.randrange(256)
        case 2:
            width = rng.choice((1, 2, 4, 8))
            number = (rng.choice(NUMBERS) + rng.choice((-1, 0, 0, 1))) % 2 ** (8 * width)
            data[at : at + width] = number.to_bytes(width, rng.choice(("little", "little", "big")))
        case 3:
            del data[at : at + size]
        case 4:
            data[at:at] = data[at : at + size]
        case 5:
            data[at:at] = rng.randbytes(size)
        case 6:
            other = _place(rng, data)
            piece = data[other : other + size]
            data[at : at + len(piece)] = piece
        case 7:
            data = data[: at + 1]
        case 8:
            data += rng.choice((b"\0", rng.randbytes(size), bytes(data[at:])))
    return data


# What JSON itself cannot say is written in the place of a mark after the rest is written.
RAW = (
    "9" * 5000, "-" + "9" * 5000, "1e999", "-1e999", "NaN", "Infinity", "1e-320", "0.1e1", "[" * 3000, '{"a":' * 3000,
    "[" * 900 + "]" * 900, '"\\ud800"', '"\\u0000"', '"' + "x" * 100_000 + '"', "[" + "1," * 20_000 + "1]", "true"[:3],
)  # fmt: skip
VALUES = (
    0, 1, -1, 2, 7, 8, 64, 10**4, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**30), 0.0, -0.0, 0.5, 1.0, 32.0, 1e-45,
    1e300, True, False, None, "", "a", "eps", "gelu", "float16", "../../x", "/dev/zero", "\u001b[2J", "\u00e9", [], {},
    [1], [[]], [None], {"a": 1}, ["eos"], "9" * 30,
)  # fmt: skip


def change_json(rng: Random, original: str) -> bytes:
    r"""The text with one to three values changed, removed, added or repeated; one in eight is also changed bytewise."""
    data = json.loads(original)
    raws: list[str] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _change_node(rng, data, raws)
    result = json.dumps(data, ensure_ascii=rng.random() < 0.9)
    for i, raw in enumerate(raws):
        result = result.replace(f'"@@{i}@@"', raw)
    encoded = result.encode(errors="surrogatepass")
    if rng.random() < 0.125:
        encoded = flip(rng, encoded)
    if rng.random() < 0.01:
        encoded = rng.choice(
            (b"\xef\xbb\xbf" + encoded, result.encode("utf-16", "surrogatepass"), b"", b"null")
        )
    return encoded


def _nodes(data: object, path: tuple = ()) -> list[tuple]:
    found = [path]
    if isinstance(data, dict):
        for key, value in data.items():
            found += _nodes(value, (*path, key))
    elif isinstance(data, list):
        for i, value in enumerate(data[:50]):
            found += _nodes(value, (*path, i))
    return found


def _change_node(rng: Random, data: object, raws: list[str]) -> object:
    paths = _nodes(data)
    path = rng.choice(paths)
    if not path:
        return _value(rng, data, raws) if rng.random() < 0.1 else data
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    key = path[-1]
    match rng.randrange(10):
        case 0:
            del inner[key]
        case 1 if isinstance(inner, dict):
            inner[str(key) + rng.choice(("", "x", "\0", "_"))] = inner.pop(key)
        case 2 if isinstance(inner, dict):
            inner[rng.choice(("a", "", "extra", "__metadata__"))] = _value(rng, inner[key], raws)
        case 3 if isinstance(inner, list):
            inner.append(inner[key])
        case _:
            inner[key] = _value(rng, inner[key], raws)
    return data


def _value(rng: Random, old: object, raws: list[str]) -> object:
    pick = rng.random()
    if pick < 0.15:
        raws.append(rng.choice(RAW))
        return f"@@{len(raws) - 1}@@"
    if pick < 0.4 and isinstance(old, int | float) and not isinstance(old, bool):
        return rng.choice(
            (old + 1, old - 1, -old, old * 2, float(old), str(old), [old], old * 10**6, old // 2)
        )
    if pick < 0.5 and isinstance(old, str):
        return rng.choice((old.upper(), old[:-1], old + "x", [old], old * 3))
    return deepcopy(rng.choice(VALUES))  # later changes must not reach the list of them


def change_program(rng: Random, program: bytes) -> bytes:
    r"""A pickle with instructions removed, repeated, moved or put in, or with bytes changed."""
    if rng.random() < 0.4:
        return flip(rng, program)
    starts = [at for _, _, at in pickletools.genops(program)] + [len(program)]
    pieces = [program[a:b] for a, b in zip(starts, starts[1:])]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(pieces))
        match rng.randrange(5):
            case 0 if len(pieces) > 1:
                del pieces[at]
            case 1:
                pieces.insert(at, rng.choice(pieces))
            case 2:
                pieces.insert(at, rng.choice(SNIPPETS))
            case 3:
                pieces[at] = rng.choice(SNIPPETS)
            case 4:
                other = rng.randrange(len(pieces))
                pieces[at], pieces[other] = pieces[other], pieces[at]
    return b"".join(pieces)


SNIPPETS = (
    *(bytes([code]) for code in b"(]})0NR.Qabdestu\x81\x85\x86\x87\x88\x89\x8f\x90\x94"),
    *(b"K" + bytes([n]) for n in (0, 1, 2, 3, 255)),
    *(whole(n) for n in (-1, 0, 1, 2**31, 2**62, 2**63, -(2**63))),
    *(text(t) for t in ("", "state_dict", "0", "1", "9", "storage", "latin1", "a" * 300, "\u00e9")),
    *(b"h" + bytes([n]) for n in range(6)),
    *(b"q" + bytes([n]) for n in range(6)),
    b"J" + struct.pack("<i", -5), b"M\xff\xff", b"G" + struct.pack(">d", float("nan")), b"U\x02ab", b"\x8b\x02\0\0\0ab",
    b"\x80\x04", b"\x80\xff", b"\x8c\x01a", b"C\x01a", b"I12\n", b"L12L\n", b"V12\n", b"F1.5\n", b"cos\nsystem\n",
    glob("collections.OrderedDict"), glob("collections.OrderedDict") + b")R}b", glob("torch.HalfStorage"),
    glob("torch._utils._rebuild_tensor_v2"), glob("torch._utils._rebuild_parameter"), glob("numpy.dtype") + b")R",
    glob("collections.Counter"), glob("torch.Size"), glob("ldm.pipeline.LatentDiffusion"),
    call("_codecs.encode", text("ab"), text("latin1")), call("_codecs.encode", text("6162"), text("hex")),
    storage(4), storage(2**40), tensor(storage(4), 0, (2, 2), (2, 1)), tensor(storage(4), 0, (2, 9), (0, 0)),
    tensor(storage(4), 3, (2,), (1,)), tensor(storage(4), 0, (0, 5), (1, 1)), group(text("a"), text("b")), b")}NK\x01s",
)  # fmt: skip


def change_archive(rng: Random, entries: list[Entry]) -> bytes:
    r"""An archive of which one field, or one record, is not as it should be."""
    entries = [Entry(e.name, e.data) for e in entries]
    entry = rng.choice(entries)
    end: dict = {}
    number = rng.choice(NUMBERS) % 2**32
    match rng.randrange(12):
        case 0:
            entry.flags = rng.choice((1, 8, 0x800, 0x808, 0xFFFF))
        case 1:
            entry.method = rng.choice((1, 8, 12, 14, 99))
        case 2:
            entry.offset = number
        case 3:
            entry.listed = rng.choice((number, len(entry.data) + 1, max(0, len(entry.data) - 1)))
        case 4:
            entry.headed = rng.choice((number, 0))
            entry.flags = rng.choice((0, 8))
        case 5:
            entry.headed_name = rng.choice(("x", "archive/data.pkl"))
        case 6:
            entry.listed = 2**32 - 1
            entry.extra = (
                b"\x01\0"
                + struct.pack("<H", rng.choice((8, 16, 24)))
                + rng.choice(NUMBERS).to_bytes(8, "little") * 3
            )
        case 7:
            entry.name = rng.choice(
                ("archive/data.pkl", "archive/byteorder", "x/data.pkl", "archive/constants.pkl", "", "/")
            )
        case 8:
            entry.after = rng.randbytes(rng.randrange(1, 50))
        case 9:
            end[rng.choice(("disk", "here", "count", "size", "start", "where"))] = number % 65536
        case 10:
            end["comment"] = rng.choice((b"!", b"PK\5\6" + bytes(18)))
        case 11:
            rng.shuffle(entries)
            if rng.random() < 0.5:
                entries.append(entry)
    return zip_archive(entries, wide=rng.random() < 0.5, **end)


def attacks(rng: Random) -> bytes:
    r"""A program of up to 300,000 instructions, made to take long, or much memory, or to break Python itself."""
    size = rng.choice((1000, 30_000, 290_000))
    many = size // 8
    return rng.choice(
        (
            START + b"})" + b"\x85" * size + b"Ns.",
            START + b"}X\1\0\0\0a)" + b"\x85" * size + b"s.",
            START + b"}Nq\0" + b"h\0h\0\x86q\0" * (size // 4) + b"Ns.",
            START + b"]" * size + b"a" * (size - 1) + b".",
            START + b"}" + b"(" * size + b".",
            START + b"(" + b"}" * size + b"t.",
            START
            + b"}"
            + text("a" * 10**6)
            + b"q\0"
            + call("_codecs.encode", b"h\0", text("latin1")) * many
            + b".",
            START + b"((" + b"N" * many + b"tq\0" + (b"cnumpy\ndtype\nh\0R") * many + b"t.",
            START + b"}(" + b"".join(text(str(i)) + b"N" for i in range(many)) + b"u.",
            table(a=tensor(storage(4), 0, (4,), (1,)) + b"q\0", **{f"t{i}": b"h\0" for i in range(many)}),
            START + b"}" + b"".join(glob(f"a.b{i}") for i in range(many)) + b".",
            START + b"N" * (size * 50) + b".",
        )
    )


def change_text(rng: Random, original: str) -> bytes:
    r"""Lines removed, repeated, moved, cut; or bytes changed."""
    if rng.random() < 0.4:
        return flip(rng, original.encode())
    lines = original.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not lines:
            break
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[other])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
            case 4:
                lines[at] = lines[at].replace(" ", rng.choice(("  ", "\t", "", "\u2028", "\r")))
    return "".join(lines).encode()


def unpacked(data: bytes) -> list[Entry]:
    r"""The records of an archive, to be put together again by hand."""
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return [Entry(info.filename, opened.read(info)) for info in opened.infolist()]
