r"""What a killed process left behind is told from what is still being written, and nothing is lost."""

import os
import signal
import threading

import pytest

import ldm.files.leftovers
from ldm.files.leftovers import recover, sweep, sweep_folder
from ldm.files.read_write import atomic_folder, atomic_path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and flock")


def killed(job) -> None:
    r"""Do a job in a process of its own, which is killed in it."""
    child = os.fork()
    if not child:
        try:
            job()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_file(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        die()


def half_a_folder(path):
    with atomic_folder(path) as temporary, atomic_path(temporary / "a") as inside:
        inside.write_text("half")
        die()


def test_what_a_killed_process_left_is_removed_and_named_and_nothing_else(tmp_path, caplog):
    killed(lambda: half_a_file(tmp_path / "model"))
    killed(lambda: half_a_folder(tmp_path / "model"))
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 2
    killed(lambda: half_a_file(tmp_path / "other"))
    kept = {*os.listdir(tmp_path)} - {*left} | {
        ".model.txt",
        ".model.ldm-",
        "model.ldm-abcd1234",
        ".modelldm",
    }
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".model.ldm-linklink").symlink_to(tmp_path)  # nobody's lock, and nothing of ours
    swept = sweep(tmp_path / "model")
    assert [path.name for path in swept] == left and {*os.listdir(tmp_path)} == kept | {".model.ldm-linklink"}
    assert all(name in caplog.text for name in left)


def test_a_folder_is_swept_of_all_that_was_left_in_it(tmp_path):
    killed(lambda: half_a_file(tmp_path / "a.png"))
    killed(lambda: half_a_folder(tmp_path / "b"))
    (tmp_path / "a.png").touch()
    assert len(sweep_folder(tmp_path)) == 2 and os.listdir(tmp_path) == ["a.png"]


def test_what_is_being_written_stays_even_if_this_very_process_writes_it(tmp_path):
    r"""A process id would not tell: after a restart, the left-over of another process may carry our own."""
    with atomic_path(tmp_path / "a") as file, atomic_folder(tmp_path / "b") as folder:
        assert sweep_folder(tmp_path) == [] and file.exists() and folder.exists()


def test_a_writer_whose_file_is_swept_before_it_holds_the_lock_makes_another(tmp_path, monkeypatch):
    held, swept = ldm.files.leftovers._lock_held, []

    def sweep_first(handle, path):
        if len(swept) < 2:
            swept.extend(sweep_folder(tmp_path))
        return held(handle, path)

    monkeypatch.setattr(ldm.files.leftovers, "_lock_held", sweep_first)
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    with atomic_folder(tmp_path / "b") as temporary:
        (temporary / "x").touch()
    assert len(swept) == 2 and sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "whole" and (tmp_path / "b" / "x").exists()


def test_where_there_are_no_locks_nothing_is_taken_for_a_left_over(tmp_path, monkeypatch):
    killed(lambda: half_a_file(tmp_path / "a"))
    left = os.listdir(tmp_path)
    monkeypatch.setattr(ldm.files.leftovers, "fcntl", None)
    assert sweep_folder(tmp_path) == [] and os.listdir(tmp_path) == left
    for text in ("old", "new"):
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text(text)
        with atomic_folder(tmp_path / "b") as temporary:
            (temporary / "x").write_text(text)
    assert (tmp_path / "a").read_text() == (tmp_path / "b" / "x").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == sorted([*left, "a", "b"])


@pytest.fixture
def aside(tmp_path, monkeypatch):
    r"""`model` as it is after a kill between two renames, where a file system cannot exchange two folders."""
    monkeypatch.setattr(ldm.files.read_write, "exchange", lambda one, other: False)
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("old")

    def replace_and_die():
        rename, renames = os.replace, []
        os.replace = lambda source, target: die() if renames else renames.append(rename(source, target))
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "a").write_text("new")

    killed(replace_and_die)
    assert not (tmp_path / "model").exists()
    return tmp_path


def test_a_reader_finds_the_old_folder_after_a_kill_between_two_renames(aside):
    assert recover(aside / "model") and (aside / "model" / "a").read_text() == "old"
    assert not recover(aside / "model")  # nothing was missing
    sweep(aside / "model")
    assert os.listdir(aside) == ["model"]


def test_the_next_writer_puts_the_old_folder_back_and_removes_the_rest(aside):
    sweep(aside / "model")
    assert os.listdir(aside) == ["model"] and (aside / "model" / "a").read_text() == "old"


def test_an_old_folder_is_not_put_back_over_a_new_one(aside):
    (aside / "model").mkdir()
    (aside / "model" / "a").write_text("newer")
    sweep(aside / "model")
    assert os.listdir(aside) == ["model"] and (aside / "model" / "a").read_text() == "newer"


def test_a_reader_that_comes_between_the_two_renames_waits_for_the_new_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ldm.files.read_write, "exchange", lambda one, other: False)
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("old")
    rename, found = os.replace, []

    def read():
        found.append(recover(tmp_path / "model") and (tmp_path / "model" / "a").read_text())

    def replace(source, target):
        if str(source).endswith(".partial"):
            assert not (tmp_path / "model").exists()
            reader.start()
            reader.join(0.05)  # it waits
            assert reader.is_alive()
        rename(source, target)

    reader = threading.Thread(target=read)
    monkeypatch.setattr(os, "replace", replace)
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a").write_text("new")
    reader.join(10)
    assert found == ["new"]


def test_to_sweep_or_recover_where_there_is_nothing_does_nothing(tmp_path):
    nowhere = tmp_path / "no" / "folder" / "model"
    assert sweep(nowhere) == sweep_folder(nowhere) == [] and not recover(nowhere)
