r"""Archives: what torch and Python's zipfile write is read as they read it, and a file of two meanings is refused."""

import io
import zipfile

import pytest
import torch

from ldm.checkpoints.archive import read_directory
from tests.checkpoints.handwritten import Entry, zip_archive

TWO = [Entry("a/x", b"first"), Entry("a/y", b"second")]


def contents(data: bytes) -> dict[str, bytes]:
    return {
        name: data[record.begin : record.end] for name, record in read_directory(memoryview(data)).items()
    }


def by_zipfile(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_an_archive_of_torch_is_read_as_zipfile_reads_it():
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(1000.0), "b": torch.ones(3).half()}, buffer)
    data = buffer.getvalue()
    assert contents(data) == by_zipfile(data) and len(contents(data)) > 4


@pytest.mark.parametrize("seekable", [True, False])
def test_an_archive_of_zipfile_is_read_as_zipfile_reads_it(seekable):
    # Where it cannot seek, it writes a record's sizes after the record.
    class Stream(io.BytesIO):
        def seekable(self):
            return seekable

        def seek(self, *arguments):
            if not seekable:
                raise OSError
            return super().seek(*arguments)

        def tell(self):
            if not seekable:
                raise OSError
            return super().tell()

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("a/x", b"first")
        with made.open("a/long", "w", force_zip64=True) as member:
            member.write(b"second")
    assert (
        contents(stream.getvalue()) == by_zipfile(stream.getvalue()) == {"a/x": b"first", "a/long": b"second"}
    )


@pytest.mark.parametrize("wide", [False, True])
def test_the_hand_written_archive_is_a_right_one(wide):
    data = zip_archive(TWO, wide)
    assert contents(data) == by_zipfile(data) == {"a/x": b"first", "a/y": b"second"}


def test_numbers_too_large_for_32_bits_are_taken_from_the_64():
    full = [0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF]
    assert contents(zip_archive(TWO, wide=True, narrow=full)).keys() == {"a/x", "a/y"}
    extra = b"\x07\x00\x01\x00?" + b"\x01\x00\x10\x00" + 2 * (5).to_bytes(8, "little")
    data = zip_archive([Entry("a/x", b"first", listed=0xFFFFFFFF, extra=extra), TWO[1]])
    assert contents(data) == by_zipfile(data)


def test_a_record_says_whether_it_is_compressed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("plain", b"x" * 100)
        made.writestr("packed", b"x" * 100, zipfile.ZIP_DEFLATED)
    records = read_directory(memoryview(buffer.getvalue()))
    assert [records[name].plain for name in ("plain", "packed")] == [True, False]


RIGHT = zip_archive(TWO)
BROKEN = {
    "empty": (b"", "does not end as a zip archive does"),
    "cut": (RIGHT[:-1], "does not end as a zip archive does"),
    "something after it": (RIGHT + b"!", "does not end as a zip archive does"),
    "something before it": (b"!" + RIGHT, "was put before or after it"),
    "a comment": (zip_archive(TWO, comment=b"PK\5\6" + bytes(18)), "was put before or after it"),
    "volumes": (zip_archive(TWO, disk=1), "comment, or is one volume"),
    "other number here": (zip_archive(TWO, here=1), "comment, or is one volume"),
    "space before the directory's end": (zip_archive(TWO, size=10), "was put before or after it"),
    "a second directory": (zip_archive(TWO, between=b"PK\1\2" + bytes(60)), "was put before or after it"),
    "two ends": (zip_archive(TWO, wide=True, narrow=[2, 2, 50, 3]), "contradict each other"),
    "64 bits elsewhere": (zip_archive(TWO, wide=True, where=3), "not where it should be"),
    "more entries": (zip_archive(TWO, here=3, count=3), "directory is cut short"),
    "fewer entries": (zip_archive(TWO, here=1, count=1), "more in it than its records"),
    "comment in an entry": (
        zip_archive([TWO[0], Entry("a/y", b"second", comment=b"!")]),
        "directory is damaged",
    ),
    "same name": (zip_archive([TWO[0], Entry("a/x", b"second")]), "two records named 'a/x'"),
    "same place": (zip_archive([TWO[0], Entry("a/x", b"second", offset=0)]), "two records named|overlaps"),
    "header beyond": (zip_archive([TWO[0], Entry("a/y", b"second", offset=10**6)]), "lies beyond its end"),
    "header elsewhere": (zip_archive([TWO[0], Entry("a/y", b"second", offset=1)]), "overlaps"),
    "no header": (zip_archive([Entry("a/x", b"first", offset=3)]), "contradicts the directory"),
    "other name in header": (
        zip_archive([Entry("a/x", b"first", headed_name="a/z")]),
        "contradicts the directory",
    ),
    "other size in header": (
        zip_archive([Entry("a/x", b"first", headed=4)]),
        "another size than the directory",
    ),
    "no size in header": (zip_archive([Entry("a/x", b"first", headed=0)]), "another size than the directory"),
    "larger than the file": (
        zip_archive([Entry("a/x", b"x", listed=99999, headed=99999)]),
        "reaches into the directory",
    ),
    "size nowhere": (zip_archive([Entry("a/x", b"x", listed=0xFFFFFFFF)]), "stands nowhere else"),
    "of a later version": (RIGHT.replace(b"PK\1\2\x14\0\x14", b"PK\1\2\x14\0\x40"), "directory is damaged"),
    "no UTF-8": (RIGHT.replace(b"a/x", b"a/\xff"), "utf-8"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_two_readers_could_take_for_two_things_is_refused(what):
    data, message = BROKEN[what]
    with pytest.raises(ValueError, match=message):
        read_directory(memoryview(data))


def test_a_record_that_reaches_into_the_next_one_is_refused():
    size = 3 + 30 + 3 + 6  # its own bytes, the other's header and name, and the other's bytes
    data = zip_archive([Entry("a/x", b"one", listed=size, headed=size), TWO[1]])
    with pytest.raises(ValueError, match="'a/y' overlaps the one before it"):
        read_directory(memoryview(data))


def test_two_sizes_of_one_plain_record_are_refused():
    data = zip_archive([Entry("a/x", b"first", flags=8, headed=0)])
    assert contents(data) == {"a/x": b"first"}
    at = data.index(b"PK\1\2") + 24
    with pytest.raises(ValueError, match="has two sizes"):
        read_directory(memoryview(data[:at] + b"\x06" + data[at + 1 :]))
