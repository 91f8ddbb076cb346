r"""The sha256 of a large file is computed once, and never taken for that of another."""

import json
import os

import pytest

from ldm.cli import hashes
from ldm.cli.hashes import cache_file, remembered_sha256
from ldm.images.metadata import sha256


@pytest.fixture(autouse=True)
def large(work, monkeypatch):
    r"""A cache of our own, and a file that counts as large; returns it and the files that are read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(work / "cache"))
    monkeypatch.setattr(hashes, "LARGE", 10)
    read = []
    monkeypatch.setattr(hashes, "sha256", lambda path: read.append(path.name) or sha256(path))
    path = work / "m.safetensors"
    path.write_bytes(b"abc" * 9)
    return path, read


def test_a_large_file_is_read_once_and_that_is_said(large, capsys):
    path, read = large
    assert remembered_sha256(path) == remembered_sha256(path) == sha256(path)
    assert read == ["m.safetensors"]
    told = capsys.readouterr().err
    assert told == f"computing the sha256 of {path} (0.0 GB), and remembering it\n"


def test_another_name_or_place_of_the_working_folder_is_the_same_file(large, monkeypatch, work):
    path, read = large
    (work / "link").symlink_to(path)
    remembered_sha256(path)
    monkeypatch.chdir(work)
    assert remembered_sha256(work / "link") == sha256(path) and len(read) == 1


def test_a_small_file_is_read_each_time(large, work):
    _, read = large
    (work / "small").write_bytes(b"abc")
    assert remembered_sha256(work / "small") == remembered_sha256(work / "small") == sha256(work / "small")
    assert read == ["small", "small"] and not cache_file().exists()


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_was_written_to_is_read_again(large, change):
    path, read = large
    before, state = remembered_sha256(path), path.stat()
    path.write_bytes(b"xyz" * (9 if change == "time" else 10))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + (change == "time")))
    assert remembered_sha256(path) == sha256(path) != before
    assert len(read) == 2


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", "[" * 100_000, "\xff", '{"KEY": 7}', '{"KEY": [27, 1, 5]}']
)
def test_a_damaged_cache_is_none(large, damage):
    path, read = large
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(damage.replace("KEY", str(path)), encoding="latin-1")
    assert remembered_sha256(path) == remembered_sha256(path) == sha256(path)
    assert len(read) == 1 and list(json.loads(cache_file().read_bytes())) == [str(path)]


def test_where_nothing_can_be_remembered_it_is_computed_each_time(large, work):
    path, read = large
    (work / "cache").write_text("a file where the folder should be")
    assert remembered_sha256(path) == remembered_sha256(path) == sha256(path)
    assert len(read) == 2
