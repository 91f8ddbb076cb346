"""`ldm bench`: write the model, measure every case several times, print a table of medians."""

import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from ldm.backend.cpu import bfloat16_instructions, cpu_identity, cpu_name, instruction_sets
from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, atomic_path, read_text
from ldm.lab.bench import layers
from ldm.lab.bench.cases import ROWS, Row
from ldm.lab.bench.fresh import Numbers, is_cuda, measure
from ldm.lab.bench.workload import FULL, QUICK, write_model
from ldm.notes import log
from ldm.text.tokenizer import Tokenizer

OURS = "ldm"
NOT_INSTALLED = "not installed"
Results = dict[str, dict[str, list[Numbers]]]  # case -> program -> the numbers of each process


@dataclass(frozen=True)
class Trial:
    """One process to start: a case, measured with one of the programs that are compared (here only ours)."""

    case: str
    program: str


@dataclass(frozen=True)
class Run:
    """All that was measured on one machine."""

    machine: Mapping[str, object]
    quick: bool
    results: Results

    def median(self, case: str, program: str, number: str) -> float | None:
        """The median of a number over a program's processes; None if it was not measured."""
        values = [found[number] for found in self.results.get(case, {}).get(program, []) if number in found]
        return median(values) if values else None

    def medians(self, case: str, program: str) -> Numbers:
        """The medians of all numbers of a case over a program's processes."""
        names = [name for found in self.results.get(case, {}).get(program, []) for name in found]
        return {name: self.median(case, program, name) or 0.0 for name in names}


def bench(quick: bool, path: Path | None, rows: Sequence[Row] = ROWS, rounds: int | None = None) -> str:
    """Measure the cases of `rows` and return a Markdown table; the results are also kept as JSON in `path`."""
    order = trials(rows, lambda case: [OURS], quick, rounds)
    runs = measure_all(order, {OURS: "ldm.lab.bench.cases"}, quick, path, table)
    return "\n".join(["# Speed and memory", *(line for run in runs for line in section(run))]) + "\n"


def where_time_goes(quick: bool) -> str:
    """Time one step of the U-Net layer by layer, in each number format, and return the tables."""
    rows = [row for row in ROWS if row.case.startswith("layers-")]
    return bench(quick, None, rows, rounds=1)


def trials(
    rows: Sequence[Row], programs: Callable[[str], Sequence[str]], quick: bool, rounds: int | None = None
) -> list[Trial]:
    """All processes in order. Within a case the programs alternate, A B A B, so that drift (such as the temperature)
    affects them alike. Cases that this machine cannot run are left out. `rounds` of each; else `repetitions`."""
    order = []
    for case in dict.fromkeys(row.case for row in rows):
        in_bfloat16 = any("bfloat16" in row.what for row in rows if row.case == case)
        supported = torch.cuda.is_available() if is_cuda(case) else bool(bfloat16_instructions())
        if supported or not (is_cuda(case) or in_bfloat16):
            times = repetitions(case, quick) if rounds is None else rounds
            order += [Trial(case, name) for _ in range(times) for name in programs(case)]
    return order


def repetitions(case: str, quick: bool) -> int:
    """The number of processes that measure a case; the table shows their median."""
    if quick or case in ("rounding", "rounding-int8", "seams"):  # these are deterministic
        return 1
    return 3 if case.startswith(("paint", "cuda-paint", "layers")) else 5


def measure_all(
    order: Sequence[Trial],
    modules: Mapping[str, str],
    quick: bool,
    path: Path | None,
    table: Callable[[Run], list[dict[str, object]]],
) -> list[Run]:
    """Measure all trials; returns the earlier runs in `path`, then this one.

    `modules` maps a program to the module to run. `path` keeps one run per machine, with its `table`. An interrupted
    run on the same machine and versions continues; what is complete is measured again, and other cases stay. The full
    model takes 4 GB in the temporary folder; with a slow disk, TMPDIR=/dev/shm keeps it in memory. A failed trial is
    logged and skipped. Raises `LdmError` if all fail.
    """
    about = machine()
    kept = [] if path is None else read_runs(path)
    others = [run for run in kept if (run.machine, run.quick) != (about, quick)]
    results: Results = {}
    for run in kept:
        if run not in others:
            results = run.results
    if results and remaining(order, results):
        print("continuing this machine's interrupted run", file=sys.stderr)
    else:
        for trial in order:
            results.pop(trial.case, None)
    runs, measured = [*others, Run(about, quick, results)], 0
    with tempfile.TemporaryDirectory(prefix="ldm-bench-") as place:
        folder = Path(place) / "model"
        print("writing a model of random weights", file=sys.stderr)
        write_model(folder, (QUICK if quick else FULL).config, Tokenizer.clip())
        for trial in (bar := tqdm(remaining(order, results), unit="process")):
            bar.set_postfix_str(f"{trial.case}, {trial.program}")
            try:
                numbers = measure(modules[trial.program], trial.case, folder, quick)
            except LdmError as error:
                log.warning("%s", error)
                continue
            results.setdefault(trial.case, {}).setdefault(trial.program, []).append(numbers)
            measured += 1
            if path is not None:
                with atomic_path(path) as temporary:
                    temporary.write_text(as_json(runs, table), encoding="utf-8")
    if not measured:
        raise LdmError("nothing could be measured; the reason for each case is above")
    return runs


def remaining(order: Iterable[Trial], results: Results) -> list[Trial]:
    """The trials that are not measured yet."""
    done = Counter(
        {Trial(c, p): len(found) for c, programs in results.items() for p, found in programs.items()}
    )
    left = []
    for trial in order:
        done[trial] -= 1
        if done[trial] < 0:
            left.append(trial)
    return left


def machine() -> dict[str, str | int]:
    """The processor and its instructions for bfloat16, cores, memory, versions, threads and CUDA device."""
    versions: dict[str, str | int] = {"python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "openvino"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = NOT_INSTALLED
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": cpu_name(),
        "generation": cpu_identity().removeprefix(cpu_name()).lstrip(", ") or "unknown",
        "instructions": " ".join(instruction_sets()) or "none known",
        "bfloat16": bfloat16_instructions() or "none",
        "cores": os.cpu_count() or 0,
        "memory (GiB)": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        **versions,
        "threads": torch.get_num_threads(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def as_json(runs: Sequence[Run], table: Callable[[Run], list[dict[str, object]]]) -> str:
    """Of each run the machine, the table, and the numbers of each process."""
    kept = [
        {"machine": run.machine, "quick": run.quick, "table": table(run), "processes": run.results}
        for run in runs
    ]
    return json.dumps({"runs": kept}, indent=2) + "\n"


def read_runs(path: Path) -> list[Run]:
    """The runs that `as_json` wrote to `path`, if there is such a file. Raises `LdmError` for anything else."""
    if not path.is_file():
        return []
    try:
        kept = json.loads(read_text(path, LARGEST_TEXT))["runs"]
        return [Run(run["machine"], run["quick"], run["processes"]) for run in kept]
    except (ValueError, TypeError, KeyError) as error:
        raise LdmError(
            f"cannot read the runs kept in {path}: {error!r}; restore the file, or remove it to start again"
        ) from error


def table(run: Run) -> list[dict[str, object]]:
    """The table of one run, for JSON."""
    return [
        {"what": row.what, "case": row.case, "unit": row.unit, OURS: run.median(row.case, OURS, row.number)}
        for row in ROWS
    ]


def section(run: Run) -> list[str]:
    """The table of one run in Markdown, under its machine."""
    rows = [
        f"| {row.what} | {quantity(run.median(row.case, OURS, row.number), row.unit)} |"
        for row in ROWS
        if row.case in run.results
    ]
    return ["", *heading(run), "| what | measured |", "|---|---|", *rows, *layer_tables(run)]


def layer_tables(run: Run) -> list[str]:
    """Where a step's time goes, in Markdown: a table for each number format that was measured."""
    page = []
    for dtype in ("bfloat16", "float32"):
        if numbers := run.medians(f"layers-{dtype}", OURS):
            peak = f"the peak is that of matrix products, {numbers['matmul'] / 1e9:.0f} GFLOP/s"
            title = f"**Where a step's time goes, {dtype}** ({peak})."
            page += ["", title, "", *layers.table(layers.from_numbers(numbers), numbers["matmul"])]
    return page


def heading(run: Run) -> list[str]:
    """The machine, and a warning about a quick run."""
    remark = (
        "**A quick run with a small model and small images, one process each: it only shows that all works.**"
    )
    return [
        f"## {name_of(run)}" + ", quick" * run.quick,
        "",
        *[remark, ""] * run.quick,
        ", ".join(f"{name}: {value}" for name, value in run.machine.items()) + ".",
        "",
    ]


def name_of(run: Run) -> str:
    """The processor and its generation, for two with one name can differ: "AMD EPYC (cpu family 25, model 17)"."""
    generation = str(run.machine.get("generation", "unknown")).partition(", stepping")[0]
    known = "" if generation == "unknown" else f" ({generation})"
    return f"{run.machine['processor']}{known}, bfloat16: {run.machine['bfloat16']}"


def quantity(value: float | None, unit: str) -> str:
    """Three digits and the unit: "1.43 s", "5610 MiB"."""
    if value is None:
        return "not measured"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
