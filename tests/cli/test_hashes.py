r"""The sha256 of a large file is computed once, and never taken for that of another."""

import json
import os
import threading
from pathlib import Path

import pytest

from ldm.cli import generation, hashes, new
from ldm.cli.hashes import beside, cache_file, cached_sha256
from ldm.errors import LdmError
from ldm.files.read_write import sha256
from ldm.images.metadata import read_record
from tests.cli.terminal import run


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
    assert cached_sha256(path) == cached_sha256(path) == sha256(path)
    assert read == ["m.safetensors"]
    told = capsys.readouterr().err
    assert told == f"computing the sha256 of {path} (0.0 GB) once\n"


def test_another_name_or_place_of_the_working_folder_is_the_same_file(large, monkeypatch, work):
    path, read = large
    (work / "link").symlink_to(path)
    cached_sha256(path)
    monkeypatch.chdir(work)
    assert cached_sha256(work / "link") == sha256(path) and len(read) == 1


def test_a_small_file_is_read_each_time(large, work):
    _, read = large
    (work / "small").write_bytes(b"abc")
    assert cached_sha256(work / "small") == cached_sha256(work / "small") == sha256(work / "small")
    assert read == ["small", "small"] and not cache_file().exists()


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_was_written_to_is_read_again(large, change):
    path, read = large
    before, state = cached_sha256(path), path.stat()
    path.write_bytes(b"xyz" * (9 if change == "time" else 10))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + (change == "time")))
    assert cached_sha256(path) == sha256(path) != before
    assert len(read) == 2


def key(path) -> str:
    return f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"


@pytest.mark.parametrize("damage", ["", "[]", "{", "[" * 100_000, "\xff", '{"KEY": 7}'])
def test_a_damaged_cache_is_ignored(large, damage):
    path, read = large
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(damage.replace("KEY", key(path)), encoding="latin-1")
    assert cached_sha256(path) == cached_sha256(path) == sha256(path)
    assert len(read) == 1 and list(json.loads(cache_file().read_bytes())) == [key(path)]


def test_where_the_cache_is_not_writable_it_is_computed_each_time(large, work):
    path, read = large
    (work / "cache").write_text("a file where the folder should be")
    assert cached_sha256(path) == cached_sha256(path) == sha256(path)
    assert len(read) == 2


def test_the_record_has_the_hashes_that_were_computed_beside_the_sampling(model, work, capsys, monkeypatch):
    painted, threads = threading.Event(), []

    def late(path, quiet=False):
        threads.append(threading.current_thread())
        assert quiet and painted.wait(60)  # the image is not held up
        return sha256(path)

    def generate_group(*arguments, **options):
        images = generation.generate_group(*arguments, **options)
        painted.set()
        return images

    monkeypatch.setattr(hashes, "cached_sha256", late)
    monkeypatch.setattr(new, "generate_group", generate_group)
    command = "generate", "a cat", "--model", model, "--seed", 5, "--steps", 1, "--out", "x.png"
    assert run(capsys, *command)[0] == 0
    found = {file.path: file.sha256 for file in read_record(work / "x.png").model_files}
    assert found == {name: sha256(Path(model) / name) for name in found} and len(found) == 8
    assert threading.main_thread() not in threads


def test_a_file_that_cannot_be_hashed_is_an_error_of_one_line_and_there_is_no_image(
    model, work, capsys, monkeypatch
):
    def unreadable(path):
        raise LdmError(f"cannot read {path}: Input/output error")

    monkeypatch.setattr(hashes, "sha256", unreadable)
    code, out, err = run(
        capsys, "generate", "a cat", "--model", model, "--seed", 5, "--steps", 1, "--out", "x.png"
    )
    message = f"ldm: cannot read {Path(model) / 'config.json'}: Input/output error"
    assert (code, out, err[-1]) == (1, "", message) and not (work / "x.png").exists()


def test_waiting_for_hashes_is_said_once_it_is_noticeable(monkeypatch, capsys):
    go_on = threading.Event()
    monkeypatch.setattr(hashes, "PATIENCE", 0.01)
    result = beside(lambda: go_on.wait(60))
    threading.Timer(0.1, go_on.set).start()
    assert result() is True
    assert capsys.readouterr().err.startswith("waiting for the sha256")
    assert result() is True and capsys.readouterr().err == ""
