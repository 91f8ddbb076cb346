r"""A trial is made once for a machine, remembered, and can be switched off."""

import json
import threading
from functools import partial

import pytest

from ldm.backend import accelerate, trial
from ldm.backend.trial import CLEARLY, ROUNDS, Trial, machine_key, ratio, remembered, trials_file, wins


class Clock:
    """A clock that only work moves on."""

    def __init__(self):
        self.now, self.worked = 0.0, []

    def work(self, name: str, seconds: float) -> None:
        self.worked.append(name)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LDM_TRIALS")
    monkeypatch.setattr(trial, "_ratios", {})
    clock = Clock()
    monkeypatch.setattr(trial.time, "perf_counter", lambda: clock.now)
    return clock


def race(clock: Clock, faster: float, plain: float, name: str = "race") -> Trial:
    return Trial(
        name,
        plain=lambda: partial(clock.work, "plain", plain),
        faster=lambda: partial(clock.work, "faster", faster),
    )


def test_both_are_timed_in_turns_after_a_first_time_that_does_not_count(clock):
    assert ratio(race(clock, 3.0, 4.0)) == 0.75
    assert clock.worked == ["faster", "plain"] * (ROUNDS + 1)


@pytest.mark.parametrize(
    ("faster", "expected"), [(0.5, True), (CLEARLY - 0.01, True), (0.99, False), (2.0, False)]
)
def test_the_plain_one_wins_a_draw(clock, faster, expected):
    assert wins(race(clock, faster, 1.0)) is expected


def test_it_is_tried_once_and_remembered_by_the_next_process(clock, monkeypatch):
    for _ in range(2):
        assert wins(race(clock, 1.0, 2.0))
    assert not wins(race(clock, 2.0, 1.0, "another"))
    tried = len(clock.worked)
    monkeypatch.setattr(trial, "_ratios", {})  # as in a new process
    assert wins(race(clock, 1.0, 2.0)) and not wins(race(clock, 2.0, 1.0, "another"))
    assert len(clock.worked) == tried
    assert json.loads(trials_file().read_text()) == {machine_key(): {"race": 0.5, "another": 2.0}}


def test_another_machine_tries_for_itself_and_forgets_nothing(clock, monkeypatch):
    wins(race(clock, 1.0, 2.0))
    here = machine_key()
    monkeypatch.setattr(trial, "_ratios", {})
    monkeypatch.setattr(trial, "cpu_identity", lambda: "another")
    assert remembered() == {} and machine_key() != here
    assert not wins(race(clock, 2.0, 1.0))
    assert json.loads(trials_file().read_text()) == {here: {"race": 0.5}, machine_key(): {"race": 2.0}}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "[1, 2]"])
def test_a_damaged_file_is_replaced(clock, text):
    trials_file().parent.mkdir()
    trials_file().write_text(text)
    assert wins(race(clock, 1.0, 2.0))
    assert json.loads(trials_file().read_text())[machine_key()] == {"race": 0.5}


def test_numbers_that_are_none_are_tried_again(clock):
    trials_file().parent.mkdir()
    trials_file().write_text(json.dumps({machine_key(): {"race": "quick", "other": 0.25}}))
    assert remembered() == {"other": 0.25}


def test_where_nothing_can_be_kept_it_is_tried_all_the_same(clock, monkeypatch, tmp_path):
    (tmp_path / "ldm").write_text("a file in the place of the folder")
    assert wins(race(clock, 1.0, 2.0))


def test_trials_can_be_switched_off(clock, monkeypatch):
    monkeypatch.setenv("LDM_TRIALS", "off")
    assert not wins(race(clock, 1.0, 2.0))
    assert clock.worked == [] and not trials_file().exists()


@pytest.mark.parametrize("one", accelerate.TRIALS, ids=lambda one: one.name)
def test_both_sides_of_every_trial_run(one):
    assert ratio(one) > 0


def test_the_work_of_one_may_depend_on_another(clock):
    inner = race(clock, 1.0, 2.0, "inner")
    outer = Trial("outer", plain=lambda: lambda: clock.work("plain", 2), faster=lambda: lambda: wins(inner))
    found = []
    thread = threading.Thread(target=lambda: found.append(wins(outer)), daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert found == [True]
