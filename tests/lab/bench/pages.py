r"""What the benchmark measured, as the site's pages show it: python -m tests.lab.bench.pages docs

From docs/bench.json it writes docs/bench.md anew, and the tables of docs/fast.md. Each of those stands between two link
definitions, which no reader sees. Run it as well when rows or goals have changed; `make bench` does so by itself.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ldm.files.read_write import atomic_path
from ldm.lab.bench.networks import operations
from ldm.lab.bench.run import OURS, Run, as_json, layer_tables, name_of, quantity, read_runs
from ldm.lab.bench.workload import FULL
from tests.lab.bench.rows import GAIN_ROWS
from tests.lab.bench.table import Line, lines, markdown
from tests.lab.bench.table import table as as_table

COMPARED = (
    *("unet-bfloat16", "unet-float32", "decode-bfloat16", "decode-float32", "encode-bfloat16"),
    *("paint-bfloat16", "paint-float32", "load", "train"),
)
WORK = {"unet": "U-Net step", "decode": "VAE decode"}
NOTHING = "*(Not measured yet: no machine's run has these rows.)*"


def fill(page: str, runs: Sequence[Run]) -> str:
    r"""The page with its blocks as these runs give them. Raises `ValueError` if one is missing."""
    full = [run for run in runs if not run.quick]
    for name, block in (("peaks", peaks), ("layers", layers), ("gains", gains), ("references", references)):
        begin, end = f"[{name}]: # (begin)\n", f"[/{name}]: # (end)"
        before, after = page.index(begin) + len(begin), page.index(end)
        page = page[:before] + "\n".join(["", *(block(full) or [NOTHING]), "", ""]) + page[after:]
    return page


def peaks(runs: Sequence[Run]) -> list[str]:
    r"""The rates of each machine; then the floors that follow from the better one, beside what we reach."""
    rates, floors = [], []
    for run in runs:
        for dtype in ("bfloat16", "float32"):
            if rate := run.medians(f"peak-{dtype}", OURS):
                rates.append([short(run), dtype, f"{rate['matmul']:.0f}", f"{rate['conv']:.0f}"])
                floors += [floor(run, work, dtype, max(rate.values())) for work in WORK]
    first = table(["machine", "numbers", "matrix products, GFLOP/s", "3x3 convolutions, GFLOP/s"], rates)
    second = table(["machine", "what", "floor", "ours", "floor / ours"], floors)
    return [*first, "", *second] if first else []


def floor(run: Run, work: str, dtype: str, gigaflops: float) -> list[str]:
    r"""A row: how long a work would take at the machine's rate, and how long it takes."""
    least, ours = operations(FULL, work) / (1e9 * gigaflops), run.median(f"{work}-{dtype}", OURS, "seconds")
    share = "-" if ours is None else f"{100 * least / ours:.0f}%"
    return [short(run), f"{WORK[work]}, {dtype}", quantity(least, "s"), quantity(ours, "s"), share]


def layers(runs: Sequence[Run]) -> list[str]:
    r"""Where a step's time goes on each machine for which that was measured."""
    page: list[str] = []
    for run in runs:
        if tables := layer_tables(run):
            page += ["", f"On {short(run)}:", *tables]
    return page[1:]


def gains(runs: Sequence[Run]) -> list[str]:
    r"""A row for each optimisation, a column for each machine on which one was measured."""
    found = {short(run): {line.row: line for line in lines(run)} for run in runs}
    found = {name: by_row for name, by_row in found.items() if any(by_row[row].ratio for row in GAIN_ROWS)}
    rows = [[row.what, *(gain(by_row[row]) for by_row in found.values())] for row in GAIN_ROWS]
    return table(["what", *found], [row for row in rows if set(row[1:]) - {"-"}])


def gain(line: Line) -> str:
    if line.ratio is None:
        return "-"
    ours, without = (quantity(value, line.row.unit) for value in (line.ours, line.best))
    return f"{line.ratio:.2f}x: {ours} instead of {without}"


def references(runs: Sequence[Run]) -> list[str]:
    r"""Our time on each machine, and its ratio to the better reference, by name."""
    found = {short(run): [line for line in lines(run) if line.row.case in COMPARED] for run in runs}
    kept = {name: measured for name, measured in found.items() if any(line.ratio for line in measured)}
    rows = [
        [same[0].row.what, *map(against, same)]
        for same in zip(*kept.values())
        if any(line.ratio for line in same)
    ]
    return table(["what", *kept], rows)


def against(line: Line) -> str:
    if line.ratio is None:
        return "-"
    [name, *_] = [name for name, value in line.others.items() if value == line.best]
    return f"{quantity(line.ours, line.row.unit)}, {line.ratio:.2f}x of {name}"


def short(run: Run) -> str:
    return name_of(run).replace(", bfloat16: none", ", no bfloat16").replace(", bfloat16: ", ", ")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    r"""A Markdown table; nothing if it has no rows."""
    if not rows:
        return []
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def write(folder: Path) -> None:
    r"""Bring the pages of a folder, and the tables in its bench.json, up to date with what was measured."""
    measured, page = folder / "bench.json", folder / "fast.md"
    runs = read_runs(measured)
    texts = {
        measured: as_json(runs, as_table),
        folder / "bench.md": markdown(runs),
        page: fill(page.read_text(encoding="utf-8"), runs),
    }
    for path, text in texts.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
