r"""The table that is printed, and the JSON that is kept."""

import json

from ldm.lab.bench.run import OURS, Run, as_json, read_runs
from tests.lab.bench.rows import CPU_ROWS, GAIN_ROWS, ROWS
from tests.lab.bench.table import DIFFUSERS, OPENVINO, WITHOUT, markdown, table

FOUND = {  # fmt: skip
    "unet-bfloat16": {
        OURS: [{"seconds": 1.4}],
        DIFFUSERS: [{"seconds": 2.0}],
        OPENVINO: [{"seconds": 1.6}],
    },
    "unet-float32": {OURS: [{"seconds": 3.0}], DIFFUSERS: [{"seconds": 3.0}], OPENVINO: [{"seconds": 4.0}]},
    "decode-float32": {OURS: [{"seconds": 7.5}], DIFFUSERS: [{"seconds": 7.5}]},
    "paint-bfloat16": {OURS: [{"seconds": 28.0}]},
    "tokenizer": {OURS: [{"rate": 6500.0}], DIFFUSERS: [{"rate": 5000.0}]},
    "generate": {OURS: [{"seconds": 2.5}]},
    "gain-layout": {WITHOUT: [{"seconds": 2.0}], OURS: [{"seconds": 1.0}]},
}
MACHINE = {"processor": "Z80", "bfloat16": "none", "threads": 2}
RUN = Run(MACHINE, False, FOUND)
CARD = Run({"processor": "6502", "bfloat16": "AMX"}, True, {"cuda-decode": {OURS: [{"seconds": 0.5}]}})


def line(what: str, run: Run = RUN) -> str:
    found, *_ = [text for text in markdown([run]).splitlines() if what in text]
    return found


def test_a_row_has_its_goals_and_a_ratio_to_the_better_reference():
    assert line("U-Net step with guidance, bf") == (
        "| U-Net step with guidance, bfloat16 | <= 1.00x | <= 0.85x | 2 s | 1.6 s | 1.4 s | 0.87x | goal |"
    )
    assert line("U-Net step with guidance, float32").endswith("| 3 s | 4 s | 3 s | 1.00x | no |")
    assert line("tokenizer").endswith("| >= 1.00x | >= 1.30x | 5000 /s | - | 6500 /s | 1.30x | stretch |")
    assert line("shell to PNG").endswith("| <= 2.2 s | - | - | - | 2.5 s | - | no |")


def test_there_is_no_verdict_where_a_reference_was_not_measured():
    assert line("decode, float32").endswith("| 7.5 s | not measured | 7.5 s | 1.00x | - |")
    without = Run({"processor": "Z80", "bfloat16": "none", "openvino": "not installed"}, False, FOUND)
    assert line("decode, float32", without).endswith("| 7.5 s | not installed | 7.5 s | 1.00x | - |")


def test_what_was_not_measured_says_so_and_has_no_verdict():
    assert line("end to end, bf").endswith("| not measured | not measured | 28 s | - | - |")
    assert line("import ldm").endswith("| <= 0.1 s | - | - | - | not measured | - | - |")
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
        "goal": 1.0, "stretch": 0.85, "ldm": 1.4, "diffusers": 2.0, "OpenVINO": 1.6, "ratio": 1.4 / 1.6,
        "reached": "goal",
    }  # fmt: skip
    (tmp_path / "kept.json").write_text(as_json([CARD, RUN], table))
    assert read_runs(tmp_path / "kept.json") == [CARD, RUN]


def test_where_a_step_spends_its_time_is_a_table_of_its_own():
    numbers = {"matmul": 1e9, "seconds": 4.0, "all else, seconds": 1.0, "all else, operations": 0.0}
    numbers |= {"linear layers, seconds": 3.0, "linear layers, operations": 1.5e9}
    page = markdown([Run(MACHINE, False, {"layers-float32": {OURS: [numbers]}})])
    assert "**Where a step's time goes, float32** (the peak is that of matrix products, 1 GFLOP/s)." in page
    assert "| linear layers | 100% | 3.00 | 75% | 50% |\n| all else | 0% | 1.00 | 25% | - |" in page
    assert "| together | 100% | 4.00 | 100% | 38% |" in page and "goes, bfloat16" not in page
