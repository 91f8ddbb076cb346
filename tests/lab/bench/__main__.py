r"""The comparison with diffusers: `make bench`, or python -m tests.lab.bench [--quick] [--json FILE]."""

import argparse
from pathlib import Path

from ldm.lab.bench.run import OURS, Trial, measure_all, trials
from tests.lab.bench.rows import ROWS, is_gain
from tests.lab.bench.table import REFERENCE, WITHOUT, markdown, other, table

MODULES = {
    REFERENCE: "tests.lab.bench.theirs",
    WITHOUT: "tests.lab.bench.without",
    OURS: "tests.lab.bench.ours",
}


def all_trials(quick: bool) -> list[Trial]:
    r"""Each case in turns with what ours is compared with, which goes first; a quick run leaves out the gains."""

    def programs(case: str) -> list[str]:
        return [name for name in (other(case), OURS) if name is not None]

    return trials([row for row in ROWS if not (quick and is_gain(row.case))], programs, quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.bench", description="Measure ldm beside diffusers."
    )
    parser.add_argument("--quick", action="store_true", help="a small model, one process each: three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep all results")
    options = parser.parse_args()
    order = all_trials(options.quick)
    print(markdown(measure_all(order, MODULES, options.quick, options.json, table)), end="")
