r"""What the benchmark writes into the page about speed."""

import pytest

from ldm.lab.bench.run import OURS, Run, as_json, read_runs
from tests.lab.bench import pages
from tests.lab.bench.pages import NOTHING, fill, write
from tests.lab.bench.table import DIFFUSERS, OPENVINO, WITHOUT, markdown, table

BLOCKS = ("peaks", "layers", "gains", "references")
PAGE = (
    "# Fast\n\n"
    + "\n\n".join(f"{name}:\n\n[{name}]: # (begin)\nold\n[/{name}]: # (end)" for name in BLOCKS)
    + "\n"
)
ABOUT = {"processor": "Z80", "bfloat16": "AMX", "generation": "model 17, stepping 1"}
FOUND = {
    "peak-float32": {OURS: [{"matmul": 200.0, "conv": 400.0}]},
    "unet-float32": {OURS: [{"seconds": 8.0}], DIFFUSERS: [{"seconds": 10.0}], OPENVINO: [{"seconds": 7.0}]},
    "gain-heap": {OURS: [{"seconds": 4.0}], WITHOUT: [{"seconds": 5.0}]},
    "layers-float32": {
        OURS: [{"matmul": 1e9, "linear layers, seconds": 2.0, "linear layers, operations": 1e9}]
    },
}


@pytest.fixture(autouse=True)
def known_operations(monkeypatch):
    monkeypatch.setattr(pages, "operations", lambda sizes, work: {"unet": 1.6e12, "decode": 2.4e12}[work])


def block(name: str, *runs: Run) -> list[str]:
    page = fill(PAGE, runs)
    assert "old" not in page and fill(page, runs) == page
    return page.partition(f"[{name}]: # (begin)\n\n")[2].partition(f"\n\n[/{name}]: # (end)")[0].splitlines()


def test_the_floor_is_the_operations_at_the_better_rate():
    found = block("peaks", Run(ABOUT, False, FOUND))
    assert found[2] == "| Z80 (model 17), AMX | float32 | 200 | 400 |" and found[6:] == [
        "| Z80 (model 17), AMX | U-Net step, float32 | 4 s | 8 s | 50% |",
        "| Z80 (model 17), AMX | VAE decode, float32 | 6 s | not measured | - |",
    ]


def test_a_gain_has_a_column_for_each_machine_that_has_one():
    other = Run({"processor": "6502", "bfloat16": "none"}, False, {"gain-heap": FOUND["gain-heap"]})
    nothing = Run({"processor": "8086", "bfloat16": "none"}, False, {})
    assert block("gains", Run(ABOUT, False, FOUND), nothing, other) == [
        "| what | Z80 (model 17), AMX | 6502, no bfloat16 |",
        "|---|---|---|",
        "| U-Net step, bfloat16: the kept heap | 0.80x: 4 s instead of 5 s | 0.80x: 4 s instead of 5 s |",
    ]


def test_the_ratio_is_to_the_better_reference_and_names_it():
    assert block("references", Run(ABOUT, False, FOUND))[2:] == [
        "| U-Net step with guidance, float32 | 8 s, 1.14x of OpenVINO |"
    ]


def test_the_layers_of_each_machine_stand_under_its_name():
    found = block("layers", Run(ABOUT, False, FOUND))
    assert found[0] == "On Z80 (model 17), AMX:" and "| linear layers | 100% | 2.00 | 100% | 50% |" in found


def test_what_nobody_measured_says_so_and_a_quick_run_is_no_measurement():
    for name in BLOCKS:
        assert block(name) == block(name, Run(ABOUT, True, FOUND)) == [NOTHING]


def test_a_page_without_a_place_for_a_block_is_an_error():
    with pytest.raises(ValueError, match="substring not found"):
        fill(PAGE.replace("[gains]", ""), [])


def test_the_pages_follow_from_the_measurements_alone(tmp_path):
    runs = [Run(ABOUT, False, FOUND)]
    (tmp_path / "bench.json").write_text(as_json(runs, lambda run: []))
    (tmp_path / "fast.md").write_text(PAGE)
    write(tmp_path)
    assert (tmp_path / "bench.json").read_text() == as_json(runs, table)
    assert read_runs(tmp_path / "bench.json") == runs
    assert (tmp_path / "bench.md").read_text() == markdown(runs)
    assert (tmp_path / "fast.md").read_text() == fill(PAGE, runs)
