r"""Both arms of the benchmark in turns: `make bench`, or python -m tests.lab.bench [--quick] [--json FILE]."""

import argparse
from pathlib import Path

from ldm.lab.bench.compare import REFERENCE
from ldm.lab.bench.run import ARMS, bench

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.bench", description="Measure ldm beside diffusers."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a narrow model, one process each: under three minutes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep all that was measured")
    options = parser.parse_args()
    # The reference first: it is A in A B A B.
    print(bench({REFERENCE: "tests.lab.bench.theirs"} | ARMS, options.quick, options.json), end="")
