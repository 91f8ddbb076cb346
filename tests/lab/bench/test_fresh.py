r"""A measurement in a process of its own."""

import os
from pathlib import Path

import pytest

from ldm.errors import LdmError
from ldm.lab.bench.fresh import measure

REPOSITORY = Path(__file__).resolve().parents[3]
ARM = """
import os
from ldm.lab.bench.fresh import main

def sizes(folder, sizes):
    print("a library greets")
    return {"side": sizes.side, "name": len(folder.name), "process": os.getpid()}

def card(folder, sizes):
    return {"hidden": os.environ.get("CUDA_VISIBLE_DEVICES") == ""}

def broken(folder, sizes):
    raise RuntimeError("no such processor")

main({"sizes": sizes, "broken": broken, "card": card, "cuda-card": card})
"""


@pytest.fixture
def arm(tmp_path, monkeypatch) -> str:
    (tmp_path / "an_arm.py").write_text(ARM)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{tmp_path}")
    return "an_arm"


@pytest.mark.long
def test_the_numbers_come_back_from_a_new_process_each_time(arm, tmp_path):
    full, quick = (measure(arm, "sizes", tmp_path / "four", quick) for quick in (False, True))
    assert (full["side"], quick["side"], full["name"]) == (512, 128, 4)
    assert len({full["process"], quick["process"], os.getpid()}) == 3


@pytest.mark.long
def test_a_card_is_seen_by_its_own_cases_alone(arm, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [measure(arm, case, tmp_path, True)["hidden"] for case in ("card", "cuda-card")] == [1, 0]


@pytest.mark.long
def test_a_failure_says_what_failed_and_how_to_see_it(arm, tmp_path):
    with pytest.raises(
        LdmError, match="measuring broken failed .exit code 1.: RuntimeError: no such processor; run"
    ):
        measure(arm, "broken", tmp_path, False)
    with pytest.raises(LdmError, match="exit code 2.: .+ invalid choice: 'unknown'"):
        measure(arm, "unknown", tmp_path, False)
