r"""Zip archives as torch writes them: records one after another, never compressed, and a directory of them at the end.

    header, record, header, record, ...
    directory                 the name, the size and the place of each record
    end of the directory      where the directory begins; before it torch writes the same again in 64 bits

Zip is a loose format. A file can hold two directories, records that overlap, or a size in the directory and another
one in the header; each reader then believes something else, and a file that one program has checked is another file to
the program that opens it. So there is one reader here, for the check and for the use, and it accepts one form only:
the directory ends the file, nothing is compressed, every size is said once or twice alike, and no byte belongs to two
records. Source: PKWARE's APPNOTE, version 6.3.10, sections 4.3 and 4.5.3.
"""

import struct
from dataclasses import dataclass

NEWEST = 63  # the version of the format, times ten, that a reader may be asked to know
MOST_RECORDS = 100_000  # Stable Diffusion's checkpoints have some two thousand

_HEADER = struct.Struct("<4s5H3I2H")  # before each record
_ENTRY = struct.Struct("<4s6H3I5H2I")  # in the directory
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")  # between the two: where the one in 64 bits begins
_FULL16, _FULL32 = (
    0xFFFF,
    0xFFFFFFFF,
)  # in a field that is too narrow for its number, which then stands elsewhere
_ENCRYPTED, _SIZES_FOLLOW = 1, 8  # flags; the latter: the header has no sizes yet, they follow its record


@dataclass(frozen=True)
class Record:
    """Where the bytes of one record lie in the file, and what the directory says of them."""

    begin: int
    end: int
    crc32: int
    plain: bool  # neither compressed nor encrypted: otherwise they may unpack to any size


@dataclass(frozen=True)
class _Listed:
    """What the directory says about one record."""

    name: bytes
    flags: int
    method: int  # of compression; 0: none
    size: int
    packed: int  # its size in the file
    header: int  # where it begins
    crc32: int


def read_directory(data: memoryview) -> dict[str, Record]:
    """All records of an archive, by name. Raises `ValueError` that says what is wrong."""
    start, size, count = _end(data)
    entries = _entries(data[start : start + size], count)
    records: dict[str, Record] = {}
    free = 0  # the first byte that belongs to no record yet
    for entry in sorted(entries, key=lambda entry: entry.header):
        name = entry.name.decode()
        if name in records:
            raise ValueError(f"it has two records named {name[:60]!r}")
        if entry.header < free:
            raise ValueError(f"its record {name[:60]!r} overlaps the one before it")
        begin = _begin(data, entry)
        free = begin + entry.packed
        if free > start:
            raise ValueError(f"its record {name[:60]!r} reaches into the directory")
        records[name] = Record(begin, free, entry.crc32, not entry.method and not entry.flags & _ENCRYPTED)
    return records


def _end(data: memoryview) -> tuple[int, int, int]:
    """Where the directory begins, its size in bytes, and the number of its entries."""
    end = len(data) - _END.size
    if end < 0 or bytes(data[end : end + 4]) != b"PK\5\6":
        raise ValueError("it does not end as a zip archive does: it is cut short, or something follows it")
    _, *disks, here, count, size, start, comment = _END.unpack_from(data, end)
    said = [(here, _FULL16), (count, _FULL16), (size, _FULL32), (start, _FULL32)]
    locator = end - _LOCATOR.size
    if locator >= _END64.size and bytes(data[locator : locator + 4]) == b"PK\6\7":
        end = locator - _END64.size
        _, disk, where, many = _LOCATOR.unpack_from(data, locator)
        mark, rest, _, _, *disks64, here, count, size, start = _END64.unpack_from(data, end)
        disks += [disk, *disks64]
        if mark != b"PK\6\6" or where != end or rest != _END64.size - 12 or many != 1:
            raise ValueError("the end of its directory in 64 bits is not where it should be")
        if any(n not in (m, full) for (n, full), m in zip(said, (here, count, size, start))):
            raise ValueError("its directory ends twice, and the two contradict each other")
    if comment or any(disks) or here != count:
        raise ValueError("it has a comment, or is one volume of several")
    if start + size != end:
        raise ValueError("its directory is not where it should be: something was put before or after it")
    if count > MOST_RECORDS:
        raise ValueError(f"it has {count:,} records; expected at most {MOST_RECORDS:,}")
    return start, size, count


def _entries(directory: memoryview, count: int) -> list[_Listed]:
    entries, at = [], 0
    for _ in range(count):
        if len(directory) - at < _ENTRY.size:
            raise ValueError("its directory is cut short")
        fields = _ENTRY.unpack_from(directory, at)
        (
            mark,
            _,
            needed,
            flags,
            method,
            _,
            _,
            crc32,
            packed,
            size,
            long_name,
            long_extra,
            comment,
            disk,
            *_,
        ) = fields
        header = fields[-1]
        at += _ENTRY.size
        name = bytes(directory[at : at + long_name])
        extra = bytes(directory[at + long_name : at + long_name + long_extra])
        at += long_name + long_extra
        if mark != b"PK\1\2" or comment or disk or needed > NEWEST or at > len(directory):
            raise ValueError("its directory is damaged")
        size, packed, header = _in_64_bits(extra, size, packed, header)
        if packed != size and not method and not flags & _ENCRYPTED:
            raise ValueError(f"its record {name[:60]!r} has two sizes")
        entries.append(_Listed(name, flags, method, size, packed, header, crc32))
    if at != len(directory):
        raise ValueError("its directory has more in it than its records")
    return entries


def _in_64_bits(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, each that is full replaced by the next one from the extra field of kind 1."""
    at = 0
    wide = b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
            break
        at += 4 + length
    found = []
    for number in numbers:
        if number == _FULL32:
            if len(wide) < 8:
                raise ValueError("a size in it is too large for its field, and stands nowhere else")
            number, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(number)
    return found


def _begin(data: memoryview, entry: _Listed) -> int:
    """Where a record begins: after its header, which must say what the directory says."""
    if entry.header + _HEADER.size > len(data):
        raise ValueError(f"the header of {entry.name[:60]!r} lies beyond its end")
    fields = _HEADER.unpack_from(data, entry.header)
    mark, _, flags, method, _, _, _, packed, size, long_name, long_extra = fields
    at = entry.header + _HEADER.size
    name = bytes(data[at : at + long_name])
    extra = bytes(data[at + long_name : at + long_name + long_extra])
    if mark != b"PK\3\4" or (name, method, flags) != (entry.name, entry.method, entry.flags):
        raise ValueError(f"the header of {entry.name[:60]!r} contradicts the directory")
    sizes = _in_64_bits(extra, size, packed)
    if sizes != [entry.size, entry.packed] and not (flags & _SIZES_FOLLOW and sizes == [0, 0]):
        raise ValueError(f"the header of {entry.name[:60]!r} says another size than the directory")
    return at + long_name + long_extra
