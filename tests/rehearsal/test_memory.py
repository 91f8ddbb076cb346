r"""The watch over memory: it sees what was there at the worst moment, and only what was written to."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm.checkpoints.write import convert
from ldm.config import SD1, SDXL, UNetLevel
from tests.rehearsal.__main__ import SLACK, Goal, goals
from tests.rehearsal.memory import STATUS, Cost, cost
from tests.rehearsal.stages import CKPT, OURS, PAINT_XL, STAGES
from tests.rehearsal.synthetic import narrow, numbers_of, write_checkpoint

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not STATUS.is_file(), reason="reads /proc, which is Linux's")


WORK = """
import time
import numpy as np
from tests.rehearsal.memory import cost

def work():
    block = np.ones(10_000_000)  # 80 MB
    time.sleep(0.2)  # on a busy machine the watch needs a moment
    del block  # given back before the end
    return "a note"

seen = cost(work)
print(seen.anonymous, seen.resident, seen.note)
"""


def test_memory_is_seen_at_its_worst_and_not_only_at_the_end():
    # In a process of its own: this one may have memory in hand that counts already.
    done = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, capture_output=True, text=True, check=True)
    anonymous, resident, *note = done.stdout.split()
    assert 70 < float(anonymous) < 100 and float(resident) > float(anonymous)
    assert note == ["a", "note"]


def test_a_file_that_is_only_mapped_is_resident_and_not_anonymous(tmp_path):
    np.ones(10_000_000).tofile(tmp_path / "numbers")

    def work():
        return str(np.memmap(tmp_path / "numbers").sum())

    assert cost(work).anonymous < 20


def test_an_error_in_the_work_comes_out_and_the_watch_ends():
    with pytest.raises(ZeroDivisionError):
        cost(lambda: str(1 / 0))


# A model of some 30 million numbers: enough for each of them to show, few enough to be written in a moment.
CONFIG = replace(
    narrow(),
    vae=replace(narrow().vae, channels=(64, 128)),
    unet=replace(narrow().unet, levels=(UNetLevel(192, 8, 1), UNetLevel(384, 8, 0))),
)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    write_checkpoint(folder / CKPT, CONFIG)
    convert(folder / CKPT, folder / OURS, config=CONFIG, dtype=torch.float32)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("stage", ["load float32", "load bfloat16"])
def test_loading_holds_no_second_copy_of_the_model(converted, stage):
    command = [sys.executable, "-m", "tests.rehearsal", "--stage", stage, "--folder", str(converted)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    count, largest = numbers_of(CONFIG)
    assert count > 25_000_000 and f"{count:,} parameters" in found["note"]
    # Mapped numbers take nothing; converted ones their place, and that of the one in work.
    most = 0 if stage == "load float32" else 2 * (count + largest) / 1e6
    assert found["anonymous"] <= most + SLACK
    assert stage == "load float32" or found["anonymous"] > 2 * count / 1e6  # the watch was awake


def test_a_goal_is_missed_by_whatever_costs_too_much():
    goal = Goal(seconds=2, anonymous=500)
    assert str(goal) == "2 s, 500 MB anonymous" and str(Goal()) == ""
    assert not goal.missed(Cost(2.0, 10_000, 500))
    assert goal.missed(Cost(2.1, 0, 0)) and goal.missed(Cost(0, 0, 501))
    assert not Goal().missed(Cost(1e9, 1e9, 1e9))


def test_the_goals_of_the_real_size_are_those_of_half_a_gigabyte_and_one_model_in_half_precision():
    limits = goals(SD1, SDXL)
    assert (limits["load float32"].seconds, limits["load float32"].anonymous) == (0.25, 500)
    # 1,066,235,307 numbers and the largest tensor's 49,408 x 768, of two bytes, and a little.
    assert limits["load bfloat16"].anonymous == round(2 * (1_066_235_307 + 49_408 * 768) / 1e6 + SLACK)
    assert limits.keys() < STAGES.keys()
    assert limits[PAINT_XL].anonymous == 12_000 - 6_938  # what 3,468,837,867 numbers of two bytes leave
