r"""What a learner has done is kept in a small file."""

import pytest

from ldm.errors import LdmError
from ldm.lab.exercises.exercise import EXERCISES
from ldm.lab.exercises.progress import Done, note, read_progress

GUIDE = EXERCISES["guidance"]


def test_hints_are_counted_up_to_the_last_and_a_solved_exercise_stays_solved(tmp_path):
    assert read_progress(tmp_path) == {}
    assert [note(tmp_path, GUIDE, hint=True).hints for _ in range(4)] == [1, 2, 3, 3]
    note(tmp_path, GUIDE, solved=True)
    note(tmp_path, EXERCISES["pool"], hint=True)
    note(tmp_path, GUIDE, hint=True)
    assert read_progress(tmp_path) == {"guidance": Done(3, True), "pool": Done(1, False)}


@pytest.mark.parametrize("text", ["[]", '{"guidance": 1}', '{"guidance": {}}', "{", '{"a": {"hints": "x"}}'])
def test_a_file_that_is_no_record_is_an_error(tmp_path, text):
    (tmp_path / "progress.json").write_text(text, encoding="utf-8")
    with pytest.raises(LdmError, match="progress.json"):
        read_progress(tmp_path)


def test_a_number_of_hints_that_cannot_be_is_not_believed(tmp_path):
    text = '{"guidance": {"hints": -7, "solved": false}}'
    (tmp_path / "progress.json").write_text(text, encoding="utf-8")
    assert note(tmp_path, GUIDE, hint=True).hints == 1
