r"""The table that is printed, and the JSON that is kept."""

import json

from ldm.lab.bench.run import OURS, Run, as_json, read_runs
from tests.lab.bench.rows import CPU_ROWS, GAIN_ROWS, ROWS
from tests.lab.bench.table import REFERENCE, WITHOUT, markdown, table

FOUND = {
    "unet-bfloat16": {OURS: [{"seconds": 1.4}], REFERENCE: [{"seconds": 2.0}]},
    "decode-float32": {OURS: [{"seconds": 7.5}], REFERENCE: [{"seconds": 7.5}]},
    "paint-bfloat16": {OURS: [{"seconds": 28.0}]},
    "tokenizer": {OURS: [{"rate": 6500.0}], REFERENCE: [{"rate": 5000.0}]},
    "generate": {OURS: [{"seconds": 2.5}]},
    "gain-layout": {WITHOUT: [{"seconds": 2.0}], OURS: [{"seconds": 1.0}]},
}
MACHINE = {"processor": "Z80", "bfloat16": "none", "threads": 2}
RUN = Run(MACHINE, False, FOUND)
CARD = Run({"processor": "6502", "bfloat16": "AMX"}, True, {"cuda-decode": {OURS: [{"seconds": 0.5}]}})


def line(what: str, run: Run = RUN) -> str:
    found, *_ = [text for text in markdown([run]).splitlines() if what in text]
    return found


def test_a_row_has_goal_and_measured():
    assert line("U-Net step with guidance, bf") == (
        "| U-Net step with guidance, bfloat16 | <= 0.75x | <= 0.68x | 2 s | 1.4 s | 0.70x | goal |"
    )
    assert line("decode, float32").endswith("| 7.5 s | 7.5 s | 1.00x | no |")
    assert line("tokenizer").endswith("| >= 1.00x | >= 1.30x | 5000 /s | 6500 /s | 1.30x | stretch |")
    assert line("shell to PNG").endswith("| <= 5 s | <= 3 s | - | 2.5 s | - | stretch |")


def test_what_was_not_measured_says_so_and_has_no_verdict():
    assert line("end to end, bf").endswith("| not measured | 28 s | - | - |")
    assert line("import ldm").endswith("| <= 0.1 s | - | - | not measured | - | - |")
    assert line("VAE encode, float16", CARD) == (
        "| VAE encode, float16 | - | - | not measured | not measured | - | - |"
    )


def test_a_gain_is_compared_with_doing_without():
    assert line("bfloat16: channels last |").endswith("| - | - | 2 s | 1 s | 0.50x | - |")
    [run] = json.loads(as_json([RUN], table))["runs"]
    [kept] = [row for row in run["table"] if row["ratio"] == 0.5]
    assert kept["without"] == 2.0 and "diffusers" not in kept


def test_every_row_is_there_under_its_machine_and_those_of_a_card_where_there_is_one():
    page = markdown([RUN])
    assert (
        "\n## Z80, bfloat16: none\n\nprocessor: Z80, bfloat16: none, threads: 2.\n" in page
        and "**A quick" not in page
    )
    assert sum(text.startswith("| ") for text in page.splitlines()) == len(CPU_ROWS + GAIN_ROWS) + 2
    assert "Not measured: no machine had one." in page
    both = markdown([RUN, CARD])
    assert both.index("## Z80") < both.index("## 6502, bfloat16: AMX, quick") < both.index("**A quick run")
    assert sum(text.startswith("| ") for text in both.splitlines()) == len(CPU_ROWS + GAIN_ROWS + ROWS) + 5
    assert "| VAE decode, float16 | - | - | not measured | 0.5 s | - | - |" in both
    assert "no machine had one" not in both


def test_the_json_has_it_all_and_comes_back(tmp_path):
    kept, _ = json.loads(as_json([CARD, RUN], table))["runs"][::-1]
    assert kept["machine"] == MACHINE and kept["quick"] is False and kept["processes"] == FOUND
    assert len(kept["table"]) == len(ROWS)
    assert kept["table"][0] == {
        "what": "U-Net step with guidance, bfloat16", "case": "unet-bfloat16", "unit": "s",
        "goal": 0.75, "stretch": 0.68, "ldm": 1.4, "diffusers": 2.0, "ratio": 0.7, "reached": "goal",
    }  # fmt: skip
    (tmp_path / "kept.json").write_text(as_json([CARD, RUN], table))
    assert read_runs(tmp_path / "kept.json") == [CARD, RUN]
