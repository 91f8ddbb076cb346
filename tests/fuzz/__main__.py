r"""Reads mutated files and writes a table of how that ended: `make fuzz`, into docs/fuzz.md.

python -m tests.fuzz --cases 100000 --seed 23 --journal outputs/fuzz.json --guided 600
"""

import argparse
import json
import sys
from pathlib import Path

from tests.fuzz import guided
from tests.fuzz.run import Total, run

HEAD = """# Files that nobody should send

Written by `make fuzz` ({cases:,} cases, seed {seed}), not by hand. Each case is a file of the kind, mutated: bytes
changed, cut, repeated; values of JSON replaced by others (zero, negative, huge, of another type, nested 3000 deep);
instructions of a pickle removed, repeated, moved; fields of a zip archive that contradict one another; and programs of
300,000 instructions made to take long. Each must end in the project's error or in a right result, within 2 seconds of
processor time and 1 GB of memory above the start. Right is what another reader finds in the same file: Python's `json`,
`zipfile` and `pickle` (with notes in place of functions), and for safetensors, which the package reads with a library,
ten plain lines. Of a whole model, right means that its tensors are those of the original and its config what the
changed JSON says. (`tests/fuzz/kinds.py`)

| kind of file | cases | our error | right | wrong or broken | slowest | most memory |
|---|--:|--:|--:|--:|--:|--:|
"""


def table(total: Total, found: list[guided.Result]) -> str:
    rows = [HEAD.format(cases=total.done, seed=total.seed)]
    for name, t in [*total.kinds.items(), ("in all", None)]:
        tallies = list(total.kinds.values()) if t is None else [t]
        cases, errors, right = (
            sum(getattr(each, key) for each in tallies) for key in ("cases", "errors", "right")
        )
        slowest, largest = (max(getattr(each, key) for each in tallies) for key in ("slowest", "largest"))
        failed = cases - errors - right
        rows.append(
            f"| {name} | {cases:,} | {errors:,} | {right:,} | {failed:,} | {slowest:.2f} s | {largest:.0f} MB |\n"
        )
    for number, kind, outcome, detail in total.failures[:50]:
        rows.append(f"\n- case {number} ({kind}): {outcome}: `{detail}`")
    rows.append(guided.table(found))
    return "".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--journal", type=Path, help="where to note how far it is, to go on if interrupted")
    parser.add_argument(
        "--guided", type=int, default=0, metavar="SECONDS", help="of coverage-guided fuzzing, in all"
    )
    options = parser.parse_args()
    total = run(options.seed, options.cases, options.journal)
    found = guided.run(options.guided)
    print(table(total, found), end="")
    failed = bool(total.failures) or any(result.failure for result in found)
    if failed:
        print(
            json.dumps(total.failures[:10]), *(result.failure for result in found), sep="\n", file=sys.stderr
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
