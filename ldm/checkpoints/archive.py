r"""Zip archives as torch writes them: records one after another, never compressed, and a directory of them at the end.

    header, record, header, record, ...
    directory                 the name, the size and the place of each record
    end of the directory      where the directory begins; before it torch writes the same again in 64 bits

Zip is a loose format. A file can hold two directories, records that overlap, or different sizes in the directory and in
a header; each reader then believes something else, and the file that one program has checked is not the file that
another opens. So one reader serves here for the check and for the use, and it accepts one form only: the directory ends
the file, nothing is compressed, numbers that are given twice are equal, and no byte belongs to two records.
Source: PKWARE's APPNOTE, version 6.3.10, sections 4.3 and 4.5.3.
"""

import struct
from dataclasses import dataclass

NEWEST = 63  # the version of the format, times ten, that a reader may be asked to know
MOST_RECORDS = 100_000  # Stable Diffusion's checkpoints have some two thousand

_HEADER = struct.Struct("<4s2x2H8x2I2H")  # before a record: mark, flags, method, packed size, size, lengths
_ENTRY = struct.Struct("<4s2x3H4x3I4H6xI")  # in the directory: also version, CRC, comment, disk, place
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ4x2I4Q")
_LOCATOR = struct.Struct("<4sIQI")  # between the two: where the one in 64 bits begins
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # in a field too narrow for its number, which then stands elsewhere
_ENCRYPTED, _SIZES_FOLLOW = 1, 8  # flags; the latter: the header has no sizes yet, they follow its record


@dataclass(frozen=True)
class Record:
    """Where the bytes of one record are in the file, and what the directory says of them."""

    begin: int
    end: int
    crc32: int
    plain: bool  # neither compressed nor encrypted: otherwise they may unpack to any size


def read_directory(data: memoryview) -> dict[str, Record]:
    """All records of an archive, by name. Raises `ValueError` that says what is wrong."""
    start, length, count = _end(data)
    directory, at, entries = data[start : start + length], 0, []
    for _ in range(count):
        if length - at < _ENTRY.size:
            raise ValueError("its directory is cut short")
        mark, needed, flags, method, crc32, packed, size, *lengths, comment, disk, place = _ENTRY.unpack_from(
            directory, at
        )
        name, extra, at = _name_and_extra(directory, at + _ENTRY.size, *lengths)
        if mark != b"PK\1\2" or comment or disk or needed > NEWEST or at > length:
            raise ValueError("its directory is damaged")
        size, packed, place = _in_64_bits(extra, size, packed, place)
        plain = not method and not flags & _ENCRYPTED
        if plain and packed != size:
            raise ValueError(f"its record {name[:60]!r} has two sizes")
        entries.append((place, name, flags, method, size, packed, crc32, plain))
    if at != length:
        raise ValueError("its directory has more in it than its records")
    records: dict[str, Record] = {}
    free = 0  # the first byte that belongs to no record yet
    for place, name, flags, method, size, packed, crc32, plain in sorted(entries):
        text = name.decode()
        if text in records:
            raise ValueError(f"it has two records named {text[:60]!r}")
        if place < free:
            raise ValueError(f"its record {text[:60]!r} overlaps the one before it")
        begin = _begin(data, place, name, flags, method, size, packed)
        free = begin + packed
        if free > start:
            raise ValueError(f"its record {text[:60]!r} reaches into the directory")
        records[text] = Record(begin, free, crc32, plain)
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
        mark, rest, *disks64, here, count, size, start = _END64.unpack_from(data, end)
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


def _name_and_extra(data: memoryview, at: int, name: int, extra: int) -> tuple[bytes, bytes, int]:
    """A record's name and extra field, of these lengths, and where they end."""
    middle, end = at + name, at + name + extra
    return bytes(data[at:middle]), bytes(data[middle:end]), end


def _in_64_bits(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, each that is full replaced by the next one from the extra field of kind 1."""
    wide = b""
    while len(extra) >= 4 and not wide:
        kind, length = struct.unpack_from("<2H", extra)
        wide, extra = extra[4 : 4 + length] if kind == 1 else b"", extra[4 + length :]
    found = []
    for number in numbers:
        if number == _FULL32:
            if len(wide) < 8:
                raise ValueError("a size in it is too large for its field, and stands nowhere else")
            number, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(number)
    return found


def _begin(data: memoryview, at: int, name: bytes, flags: int, method: int, size: int, packed: int) -> int:
    """Where a record begins: after its header, which must say what the directory says."""
    if at + _HEADER.size > len(data):
        raise ValueError(f"the header of {name[:60]!r} lies beyond its end")
    mark, *kind, packed_here, size_here, name_length, extra_length = _HEADER.unpack_from(data, at)
    same, extra, begin = _name_and_extra(data, at + _HEADER.size, name_length, extra_length)
    if mark != b"PK\3\4" or (same, kind) != (name, [flags, method]):
        raise ValueError(f"the header of {name[:60]!r} contradicts the directory")
    sizes = _in_64_bits(extra, size_here, packed_here)
    if sizes != [size, packed] and not (flags & _SIZES_FOLLOW and sizes == [0, 0]):
        raise ValueError(f"the header of {name[:60]!r} says another size than the directory")
    return begin
