r"""`atomic_path`: the old file or the whole new one, never anything else."""

import os
import stat
import threading

import pytest

from ldm.files import atomic_path


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
