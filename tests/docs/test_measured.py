r"""Figures in the README, the model card and the docs are those in the files that the measuring programs wrote."""

import json
import re

import pytest

from ldm.checkpoints.folder import read_config, read_tensors
from ldm.diffusion.samplers import SAMPLERS
from ldm.lab.bench.run import read_runs
from ldm.lab.museum.rooms import MISTAKES
from tests.conftest import REPOSITORY
from tests.lab.bench.table import lines, markdown

DOCS, TINY = REPOSITORY / "docs", REPOSITORY / "weights" / "tiny"
TINY_STEPS = read_config(TINY).defaults.steps


def text(path) -> str:
    return path.read_text(encoding="utf-8")


def rows(page: str, columns: int) -> list[list[str]]:
    r"""The cells of every table row with this many columns."""
    split = [[cell.strip() for cell in line[1:-1].split("|")] for line in re.findall(r"^\|.*\|$", page, re.M)]
    return [row for row in split if len(row) == columns and not set(row[0]) <= set("-: ")]


def flat(page: str) -> str:
    return " ".join(page.split())


# --- parity and mutants -----------------------------------------------------------------------------------


def test_the_parity_table_of_the_readme_is_that_of_the_file_that_make_parity_wrote():
    measured = rows(text(DOCS / "parity.md"), 5)[1:]
    expected: dict[str, dict[bool, float]] = {}
    for component, kind, _, difference, _ in measured:
        largest = expected.setdefault(component, {})
        full = kind.startswith("full size")
        largest[full] = max(largest.get(full, 0.0), float(difference))
    shown = rows(text(REPOSITORY / "README.md"), 3)
    table = {row[0].partition(":")[0].partition(" (")[0]: row[1:] for row in shown if row[0] != "component"}
    for component, largest in expected.items():
        cells = [f"{largest[full]:.1e}" if full in largest else "" for full in (False, True)]
        assert table[component] == [cell.replace("0.0e+00", "0") for cell in cells], component


def test_the_readme_counts_the_mistakes_as_make_mutants_did():
    [(made, survived)] = re.findall(r"^(\d+) mistakes, (\d+) survived", text(DOCS / "mutants.md"), re.M)
    assert int(made) == len(MISTAKES) == len(re.findall(r"^\| \d+\w? \|", text(DOCS / "mutants.md"), re.M))
    assert survived == "0" and f"{made} were made, and none survived" in flat(text(REPOSITORY / "README.md"))


# --- the benchmark ----------------------------------------------------------------------------------------

RUNS = read_runs(DOCS / "bench.json")
BY_KIND = {str(run.machine["bfloat16"]): lines(run) for run in RUNS}
PAGE = text(DOCS / "fast.md")


def test_the_benchmarks_page_is_what_its_numbers_give():
    assert text(DOCS / "bench.md") == markdown(RUNS)


def measured(kind: str, case: str, unit: str = "s"):
    r"""The first row of a case on the machine of this kind ("AVX-512")."""
    return next(line for line in BY_KIND[kind] if (line.row.case, line.row.unit) == (case, unit))


@pytest.mark.parametrize(("column", "kind"), [(2, "AVX-512"), (3, "none")])
def test_the_gains_on_the_page_about_speed_are_the_benchmarks(column, kind):
    gains = [line for line in BY_KIND[kind] if "without" in line.others and line.ours]
    cells = [row[column] for row in rows(PAGE, 5)[1:]]
    found = 0
    for cell in cells:
        pairs = re.findall(r"([\d.,]+) (?:s|MiB) instead of ([\d.,]+)", cell)
        for ours, theirs in pairs:
            assert any(same(ours, line.ours) and same(theirs, line.best) for line in gains), (cell, ours)
        percents = re.findall(r"(\d+)%", cell)
        for percent in percents:
            assert any(round(100 * (1 - line.ratio)) == int(percent) for line in gains), (cell, percent)
        found += len(pairs) + len(percents)
    assert found > 4


def same(shown: str, value: float) -> bool:
    r"""Whether a number on the page is this one, rounded to as many digits as it shows."""
    digits = len(shown.rstrip(".,").partition(".")[2])
    return f"{value:,.{digits}f}" == shown.rstrip(".,")


def test_the_ratios_on_the_page_about_speed_are_the_benchmarks():
    def ratio(case: str, kind: str = "AVX-512") -> str:
        return f"{measured(kind, case).ratio:.2f}"

    def seconds(case: str) -> tuple[str, str]:
        line = measured("AVX-512", case)
        return f"{line.ours:.2f}", f"{line.best:.2f}"

    memory = measured("AVX-512", "paint-bfloat16", "MiB")
    compiled = measured("AVX-512", "gain-compile")
    adamw = measured("AVX-512", "gain-train-adamw")
    attention = seconds("gain-train-attention")
    told = [
        f"a step takes {ratio('unet-bfloat16')} of the time that diffusers takes, decoding "
        f"{ratio('decode-bfloat16')}, encoding {ratio('encode-bfloat16')}, a whole image "
        f"{ratio('paint-bfloat16')}; in float32 a step {ratio('unet-float32')}, decoding "
        f"{ratio('decode-float32')} and a whole image {ratio('paint-float32')}; the tiny U-Net's training step "
        f"{ratio('train')}.",
        f"a step takes {ratio('unet-float32', 'none')} of diffusers' time, decoding "
        f"{ratio('decode-float32', 'none')}, loading {ratio('load', 'none')} and the training step "
        f"{ratio('train', 'none')}.",
        f"a step takes {attention[0]} s instead of {attention[1]} s with AVX-512",
        f"The fused AdamW gives {100 * (1 - adamw.ratio):.0f}% with AVX-512",
        f"takes {memory.ours:,.0f} MiB with AVX-512, where diffusers takes {memory.best:,.0f}.",
        f"a step takes {compiled.ours:.1f} s instead of {compiled.best:.1f}.",
    ]
    for sentence in told:
        assert sentence in flat(PAGE)


# --- training ---------------------------------------------------------------------------------------------


def test_the_model_card_tells_what_the_training_reported():
    report = json.loads(text(TINY / "training.json"))
    config = json.loads(text(TINY / "config.json"))
    card = text(TINY / "README.md")
    stages = {row[0]: row[2:] for row in rows(card, 4)}
    for name, stage in (("tokenizer", "tokenizer"), ("CLIP", "clip"), ("VAE", "vae"), ("U-Net", "diffusion")):
        minutes = stages[name][0]
        assert same(minutes, report[stage]["minutes"]), name
    assert f"{report['tokenizer']['vocabulary']:.0f} tokens" in stages["tokenizer"][1]
    assert f"{100 * report['clip']['retrieval among 64, held-out combinations']:.1f} %" in stages["CLIP"][1]
    assert f"PSNR {report['vae']['PSNR, held-out combinations (dB)']:.1f} dB" in stages["VAE"][1]
    assert f"error {report['diffusion']['loss, held-out combinations']:.4f} " in stages["U-Net"][1]
    assert f"scale {config['vae']['scale']:.4f}" in card
    assert f"{config['defaults']['steps']} steps, guidance {config['defaults']['guidance']:.0f}" in card


def test_the_model_card_tells_the_sizes_of_its_files():
    parts = [row for row in rows(text(TINY / "README.md"), 4) if row[0].endswith(".safetensors`")]
    assert len(parts) == 4
    for name, _, parameters, size in parts:
        file = TINY / name.strip("`")
        count = sum(tensor.numel() for tensor in read_tensors(file).values())
        assert parameters == f"{count / 1e6:.1f} M" and size == f"{file.stat().st_size / 1e6:.1f} MB", name


def test_every_sampler_takes_by_default_as_many_steps_as_make_samplers_found_enough():
    page = text(DOCS / "samplers.md")
    (_, *heads), *table = rows(page, 5)
    counts = [int(head.removesuffix(" steps")) for head in heads]
    assert {row[0] for row in table} == {name for name, row in SAMPLERS.items() if row.spacing != "lcm"}
    for name, *shares in table:
        enough = min(count for count, share in zip(counts, shares) if share == "100%")
        assert enough == max(TINY_STEPS, SAMPLERS[name].min_default_steps), name
    right = {row[0]: row[1].replace("%", " %") for row in table}
    card = flat(text(TINY / "README.md"))
    assert f"PLMS gets {right['plms']} of 32 images right in 20 steps" in card
    assert f"LMS {right['lms']}, and all in 40" in card


def test_what_the_docs_say_about_the_losses_is_what_make_losses_measured():
    table = {row[0]: row[1:] for row in rows(text(DOCS / "losses.md"), 7)}
    psnr, slopes = ({name: row[i] for name, row in table.items() if name} for i in (0, 2))
    pushed, deviation = ({name: row[i] for name, row in table.items() if name} for i in (4, 5))
    short = {name: f"{float(value.removesuffix(' dB')):.1f}" for name, value in psnr.items()}
    page = flat(text(DOCS / "training.md"))
    assert (
        f"({short['without both']} dB and slopes of {slopes['without both']}, against {short['all losses']} and "
        f"{slopes['all losses']})"
    ) in page
    assert f"falls from {deviation['all losses']} to {deviation['without KL']}" in page
    assert f"decode worse ({pushed['without KL'][:-3]} against {pushed['all losses']})" in page
