r"""Writing: the old one or the whole new one, never anything else. Reading: regular files of a bounded size."""

import os
import re
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

import ldm
import ldm.files.leftovers
import ldm.files.read_write
from ldm.errors import LdmError
from ldm.files.read_write import (
    atomic_folder,
    atomic_path,
    open_regular,
    parse_json,
    read_bounded,
    read_json,
    read_table,
    read_text,
    sha256,
    write_new,
)


def test_the_file_is_written(tmp_path):
    target = tmp_path / "config.json"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_path_may_be_a_string_and_missing_folders_are_made(tmp_path):
    with atomic_path(f"{tmp_path}/runs/one/log.txt") as temporary:
        temporary.write_text("line")
    assert (tmp_path / "runs" / "one" / "log.txt").read_text() == "line"


def test_until_the_block_ends_a_reader_sees_the_old_file(tmp_path):
    target = tmp_path / "weights.bin"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        # The same folder (a rename across file systems is no longer one operation), and the same suffix,
        # by which libraries choose a format.
        assert temporary.parent == tmp_path and temporary.suffix == ".bin"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "weights.bin"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_a_block_that_raises_makes_no_new_file(tmp_path):
    with pytest.raises(ValueError), atomic_path(tmp_path / "new.txt") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_a_target_that_cannot_be_replaced_is_an_error_without_leftovers(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError), atomic_path(tmp_path / "taken") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == ["taken"]


def test_the_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("a")
    assert order == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_file_has_the_permissions_of_an_ordinary_one(tmp_path, mask, mode):
    # 0666 without the bits of the mask: 0666 & ~0022 = 0644.
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("x")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
        assert os.umask(mask) == mask  # reading the mask did not change it
    finally:
        os.umask(before)


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    target, both_inside = tmp_path / "file", threading.Barrier(2)

    def write(letter: str) -> None:
        with atomic_path(target) as temporary:
            both_inside.wait(timeout=10)
            temporary.write_text(letter * 1000)

    threads = [threading.Thread(target=write, args=letter) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text() in ("a" * 1000, "b" * 1000)
    assert os.listdir(tmp_path) == ["file"]


# --- folders -----------------------------------------------------------------------------------------------


def test_a_folder_takes_its_place_when_the_block_ends(tmp_path):
    target = tmp_path / "model"
    for text in ("old", "new"):
        with atomic_folder(target) as temporary:
            (temporary / "a").write_text(text)
            assert not target.exists() or (target / "a").read_text() == "old"
        assert (target / "a").read_text() == text and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("half")
        raise error
    assert (tmp_path / "model" / "a").read_text() == "old" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, exchanges):
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("old")
    replace = os.replace

    def fail(source, target):
        if str(source).endswith(".partial"):
            raise OSError("busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(ldm.files.read_write, "exchange", fail if exchanges else lambda one, other: False)
    with pytest.raises(OSError, match="busy"), atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("new")
    assert (tmp_path / "model" / "a").read_text() == "old" and os.listdir(tmp_path) == ["model"]


def test_where_folders_cannot_be_exchanged_the_new_one_takes_its_place_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(ldm.files.read_write, "exchange", lambda one, other: False)
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "a").write_text(text)
    assert (tmp_path / "model" / "a").read_text() == "new" and os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's renameat2")
def test_a_folder_is_replaced_without_a_moment_in_which_there_is_none(tmp_path, monkeypatch):
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("old")
    monkeypatch.setattr(os, "replace", None)  # of two renames, a kill may come between
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("new")
    assert (tmp_path / "model" / "a").read_text() == "new" and os.listdir(tmp_path) == ["model"]


# --- new names ---------------------------------------------------------------------------------------------


def test_a_new_file_gets_the_first_name_that_is_free(tmp_path):
    (tmp_path / "a").write_text("taken")
    (tmp_path / "b").symlink_to("nowhere")  # a name, too
    assert write_new(tmp_path, "abcd", lambda path: path.write_text("new")) == tmp_path / "c"
    assert (tmp_path / "c").read_text() == "new" and (tmp_path / "a").read_text() == "taken"
    assert write_new(tmp_path, "ab", lambda path: path.write_text("new")) is None
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["renameat2", "link", "neither"])
def test_two_writers_never_get_the_same_name(tmp_path, monkeypatch, way):
    """Both have written their file before either takes a name, which a count of the files would give to both."""
    both, got = threading.Barrier(2), []
    if way != "renameat2":
        monkeypatch.setattr(ldm.files.leftovers, "_renameat2", lambda *_: False)
    if way == "neither":
        monkeypatch.setattr(os, "link", refuse)
        both = threading.Barrier(1)  # one after the other: between a look and a rename there is a gap

    def write(text: str) -> None:
        def put(path):
            path.write_text(text)
            both.wait(timeout=10)

        got.append(write_new(tmp_path, ("1", "2", "3"), put))

    threads = [threading.Thread(target=write, args=letter) for letter in "ab"]
    for thread in threads:
        thread.start()
        if way == "neither":
            thread.join()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in got) == ["1", "2"] == sorted(os.listdir(tmp_path))
    assert sorted(path.read_text() for path in got) == ["a", "b"]


def refuse(*_, **__):
    raise PermissionError("no links here")


def test_a_file_of_just_the_limit_is_read_and_one_byte_more_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    with pytest.raises(LdmError, match=r"x has 5 bytes; expected at most 4"):
        read_bounded(tmp_path / "x", 4)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")
def test_a_file_that_claims_to_be_empty_and_is_not_has_the_same_limit():
    assert os.stat("/proc/self/maps").st_size == 0
    with pytest.raises(LdmError, match="maps has more than 64 bytes, the most expected"):
        read_bounded("/proc/self/maps", 64)


def test_a_hole_of_six_gigabytes_is_refused_by_its_size(tmp_path):
    with open(tmp_path / "merges.txt", "wb") as file:
        file.truncate(6 << 30)
    with pytest.raises(LdmError, match=r"merges.txt has 6,442,450,944 bytes; expected at most 1,000"):
        read_bounded(tmp_path / "merges.txt", 1000)


@pytest.mark.skipif(os.name != "posix", reason="needs devices, pipes and sockets with names")
def test_a_device_a_pipe_a_socket_and_a_folder_are_refused_by_their_kind(tmp_path, monkeypatch):
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")  # opened the ordinary way, it would wait here forever
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (tmp_path / "folder").mkdir()
    kinds = {"zero": "a device", "pipe": "a named pipe", "socket": "a socket", "folder": "a folder"}
    for name, kind in kinds.items():
        with pytest.raises(LdmError, match=f"{name}: it is {kind}; expected a regular file"):
            open_regular(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_file_that_becomes_a_pipe_before_it_is_opened_is_refused_too(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    before = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda path: before)
    with pytest.raises(LdmError, match="it is a named pipe"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["missing", "a\0b"])
def test_a_name_of_nothing_is_an_error(tmp_path, name):
    with pytest.raises(LdmError, match="cannot read"):
        open_regular(tmp_path / name)


def test_json_is_read_and_a_damaged_one_named(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [1, 2.5, null]}')
    assert read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(LdmError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, b"\xff\xff", "", "\ufeff{}"])
def test_json_that_python_cannot_parse_is_one_kind_of_error(text):
    with pytest.raises(LdmError, match="config.json is"):
        parse_json(text, "config.json")


def test_a_text_that_is_not_utf_8_is_an_error(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"caf\xe9")
    with pytest.raises(LdmError, match=r"x\.txt is not a text in UTF-8"):
        read_text(tmp_path / "x.txt", 100)
    (tmp_path / "x.txt").write_text("café", encoding="utf-8")
    assert read_text(tmp_path / "x.txt", 100) == "café"


# What is read in another way, and why that is safe.
OWN = {
    "files/read_write.py": "the door itself",
    "lab/trace/page.py": "this package's own files",
    "lab/trace/shapes.py": "this package's own file",
    "text/merges.py": "this package's own file, whose hash is compared",
    "lab/exercises/exercise.py": "this package's own file",
    "lab/exercises/patching.py": "this package's own source",
    "lab/exercises/checking.py": "a log that this program writes",
    "lab/bench/stopwatch.py": "the system, in /proc; and a benchmark's own model",
    "lab/museum/files.py": "a file that it wrote itself, to make the mistake's",
    "lab/museum/painting.py": "this package's own source, and a cache of its own",
    "lab/museum/patched_import.py": "this package's own source",
    "lab/museum/scenes.py": "to write",
    "lab/museum/words.py": "this package's own source",
    "lab/playground/build.py": "weights that it wrote itself",
    "lab/playground/page.py": "this package's own files",
    "lab/playground/runtime.py": "a package whose hash is compared first",
    "backend/cpu.py": "the system, in /proc",
    "train/checkpoint.py": "through the door first, then by torch; and a run's own code",
    "cli/replay.py": "through the door first, for its record",
    "checkpoints/safetensors_file.py": "to write",
    "train/log.py": "to write",
    "cli/program.py": "the null device",
}
READS = re.compile(
    r"(?<![\w.])open\(|\.read_text\(|\.read_bytes\(|json\.load\(|torch\.(load|from_file)\(|ZipFile\("
    r"|Image\.open\((?!file\b)"
)


def test_every_reader_goes_through_the_door():
    package = Path(ldm.__file__).parent
    found = {
        f"{path.relative_to(package).as_posix()}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if READS.search(line) and path.relative_to(package).as_posix() not in OWN
    }
    assert sorted(found) == []


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_json_that_can_be_parsed_but_is_too_deep_to_compare_or_print_is_an_error(brackets):
    def nested(depth: int) -> str:
        if brackets == "[]":
            return "[" * depth + "1" + "]" * depth
        return '{"a": ' * depth + "1" + "}" * depth

    assert parse_json(nested(64), "x")
    for depth in (65, 900):
        with pytest.raises(LdmError, match="x is nested too deeply"):
            parse_json(nested(depth), "x")


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_table_is_a_json_object(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_table(tmp_path / "x.json") == {"a": 1}
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(LdmError, match="x.json: expected a JSON object, got list"):
        read_table(tmp_path / "x.json")
