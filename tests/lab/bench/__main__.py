r"""The comparison with diffusers and OpenVINO: `make bench`, or python -m tests.lab.bench [--quick] [--json FILE]."""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ldm.lab.bench.run import OURS, Trial, measure_all, trials
from tests.lab.bench.rows import ROWS, is_gain
from tests.lab.bench.table import DIFFUSERS, OPENVINO, WITHOUT, markdown, others, table

MODULES = {
    DIFFUSERS: "tests.lab.bench.theirs",
    OPENVINO: "tests.lab.bench.by_openvino",
    WITHOUT: "tests.lab.bench.without",
    OURS: "tests.lab.bench.ours",
}
CASES = tuple(dict.fromkeys(row.case for row in ROWS))


def all_trials(quick: bool, only: Sequence[str] | None = None, rounds: int | None = None) -> list[Trial]:
    r"""Each case, or only some, in turns with what ours is compared with, as far as that is installed.

    A quick run leaves out the gains, unless it is asked for them.
    """
    left_out = () if find_spec("openvino") else (OPENVINO,)

    def programs(case: str) -> list[str]:
        return [name for name in (*others(case), OURS) if name not in left_out]

    wanted = [case for case in CASES if not (quick and is_gain(case))] if only is None else only
    return trials([row for row in ROWS if row.case in wanted], programs, quick, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.bench", description="Measure ldm beside diffusers and OpenVINO."
    )
    parser.add_argument("--quick", action="store_true", help="a small model, one process each: three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep all results")
    parser.add_argument(
        "--only", nargs="+", choices=CASES, metavar="CASE", help="measure these, keep the others"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="processes of each program (five; three if slow)"
    )
    options = parser.parse_args()
    order = all_trials(options.quick, options.only, options.rounds)
    print(markdown(measure_all(order, MODULES, options.quick, options.json, table)), end="")
