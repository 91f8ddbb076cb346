r"""Figures in the README, the model card and the docs are those in the files that the measuring programs wrote."""

import json
import re

import torch

from ldm.checkpoints.folder import read_config, read_tensors
from ldm.diffusion.samplers import SAMPLERS
from ldm.lab.bench.layers import by_kind
from ldm.lab.bench.run import read_runs
from ldm.lab.bench.workload import FULL
from ldm.lab.museum.rooms import MISTAKES
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.conftest import REPOSITORY
from tests.lab.bench.pages import fill
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
PAGE = text(DOCS / "fast.md")
# The machines that the page names: they were measured before a run said of which generation a processor is.
NAMED = {str(run.machine["bfloat16"]): lines(run) for run in RUNS if "generation" not in run.machine}


def test_the_benchmarks_page_is_what_its_numbers_give():
    assert text(DOCS / "bench.md") == markdown(RUNS)


def test_the_tables_on_the_page_about_speed_are_what_the_benchmarks_numbers_give():
    assert fill(PAGE, RUNS) == PAGE


def measured(kind: str, case: str, unit: str = "s"):
    r"""The first row of a case on the machine of this kind ("AVX-512")."""
    return next(line for line in NAMED[kind] if (line.row.case, line.row.unit) == (case, unit))


def same(shown: str, value: float) -> bool:
    r"""Whether a number on the page is this one, rounded to as many digits as it shows."""
    digits = len(shown.rstrip(".,").partition(".")[2])
    return f"{value:,.{digits}f}" == shown.rstrip(".,")


def test_the_gains_that_the_page_about_speed_tells_are_the_benchmarks():
    def seconds(kind: str, case: str, digits: int) -> str:
        line = measured(kind, case)
        return f"{line.ours:.{digits}f} s instead of {line.best:.{digits}f} s"

    oneDNN = measured("AVX-512", "gain-products")
    compiled = measured("AVX-512", "gain-compile")
    told = [
        f"On the EPYC without bfloat16 a step takes {seconds('none', 'gain-kernel-float32', 1)}.",
        f"on the EPYC without bfloat16 a step takes {seconds('none', 'gain-heap-float32', 1)}.",
        f"took 21% off a step on one processor ({seconds('AVX-512', 'gain-pieces', 2)})",
        f"takes {100 * (1 - oneDNN.ratio):.0f}% off a step of the EPYC with AVX-512.",
        f"On the EPYC with AVX-512 that takes {measured('AVX-512', 'gain-load').ours:.2f} s instead of "
        f"{measured('AVX-512', 'gain-load').best:.1f} s.",
        f"a step takes {compiled.ours:.1f} s instead of {compiled.best:.1f}.",
    ]
    for sentence in told:
        assert sentence in flat(PAGE)
    before, _, _ = PAGE.partition("## Early trials")
    prose = flat("\n".join(line for line in before.splitlines() if not line.startswith("|")))
    number = r"[\d.]+ s instead of [\d.]+"
    assert len(re.findall(number, prose)) == len(re.findall(number, " ".join(told)))  # and no other


@torch.no_grad()
def test_the_operations_on_the_page_about_speed_are_those_of_the_networks():
    with torch.device("meta"):
        unet, vae = UNet(FULL.config.unet), VAE(FULL.config.vae)
        x_t, context = torch.empty(2, 4, 64, 64), torch.empty(2, 77, 768)
        step = by_kind(unet, lambda: unet(x_t, torch.tensor(500), context))
        decode = by_kind(vae, lambda: vae.decode(x_t[:1]))
    whole, decoding = (sum(cost.operations for cost in costs.values()) for costs in (step, decode))
    fewer = sum(step[f"self-attention over {n} positions"].operations for n in (1024, 256, 64))
    kinds = ["3x3 convolutions", "linear layers", "self-attention over 4096 positions", "1x1 convolutions"]
    shares = [step[kind].operations for kind in kinds] + [fewer, step["cross-attention"].operations]
    shown = [float(row[1].rstrip("%")) for row in rows(PAGE.partition("[peaks]")[0], 2)[1:]]
    assert [round(100 * share / whole, int(of < 1)) for share, of in zip(shares, shown, strict=True)] == shown
    convolutions = decode["3x3 convolutions"].operations / decoding
    assert f"That takes {whole / 1e9:,.0f} billion multiplications and additions" in flat(PAGE)
    assert f"{decoding / 1e9:,.0f} billion operations, {100 * convolutions:.0f}% of them" in flat(PAGE)
    assert round(20 * whole / decoding) == 13 and "thirteen times as many operations" in flat(PAGE)


# --- training ---------------------------------------------------------------------------------------------


def test_the_model_card_tells_what_the_training_reported():
    report = json.loads(text(TINY / "training.json"))
    config = json.loads(text(TINY / "config.json"))
    card = text(TINY / "README.md")
    stages = {row[0]: row[2:] for row in rows(card, 4)}
    unet, matched = "U-Net and text encoder", "CLIP, all but the text encoder"
    names = {"tokenizer": "tokenizer", "CLIP": "clip", "VAE": "vae", unet: "diffusion", matched: "match"}
    for name, stage in names.items():
        minutes = stages[name][0]
        assert same(minutes, report[stage]["minutes"]), name
    assert f"{report['tokenizer']['vocabulary']:,.0f} tokens" in stages["tokenizer"][1]
    for name in ("CLIP", matched):
        among = report[names[name]]["retrieval among 64, held-out combinations"]
        assert f"{100 * among:.1f} %" in stages[name][1]
    assert f"PSNR {report['vae']['PSNR, held-out combinations (dB)']:.1f} dB" in stages["VAE"][1]
    assert f"error {report['diffusion']['loss, held-out combinations']:.4f}" in stages[unet][1]
    assert f"scale {config['vae']['scale']:.4f}" in card
    assert f"{config['defaults']['steps']} steps, guidance {config['defaults']['guidance']:.0f}" in card


def test_the_model_card_tells_the_sizes_of_its_files():
    parts = [row for row in rows(text(TINY / "README.md"), 4) if row[0].endswith(".safetensors`")]
    assert len(parts) == 4
    for name, _, parameters, size in parts:
        file = TINY / name.strip("`")
        count = sum(tensor.numel() for tensor in read_tensors(file).values())
        assert parameters == f"{count / 1e6:.1f} M" and size == f"{file.stat().st_size / 1e6:.1f} MB", name


def test_every_sampler_takes_by_default_as_many_steps_as_make_samplers_found_enough_or_the_page_names_it():
    page = text(DOCS / "samplers.md")
    table = {name: int(enough) for name, *_, enough in rows(page, 5)[1:]}
    assert set(table) == {name for name, row in SAMPLERS.items() if row.spacing != "lcm"}
    short = {n for n, enough in table.items() if enough > max(TINY_STEPS, SAMPLERS[n].min_default_steps)}
    [named] = re.findall(r"fewer steps than were enough: (.*)\.", page)
    assert short == set(re.findall(r"`(\w+)`", named))
    # Their defaults are Stable Diffusion's. Karras levels suit the tiny model less, whose schedule ends in pure noise.
    assert all(name.endswith("_karras") for name in short)


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
