r"""Reads mutated files and writes a table of how that ended: `make fuzz`, into docs/fuzz.md.

python -m tests.fuzz --cases 100000 --seed 23 --journal outputs/fuzz.json --guided 600
"""

import argparse
import json
import sys
from pathlib import Path

from tests.fuzz import guided
from tests.fuzz.run import Total, run

HEAD = """# Damaged and malicious files

Written by `make fuzz` ({cases:,} cases, seed {seed}). Each case is a valid file with a mutation: bytes are changed,
cut out or repeated; values in JSON are replaced (by zero, negative, huge, of another type, nested 3000 deep);
instructions of a pickle are removed, repeated or moved; fields of a zip archive contradict one another; and some
pickles are programs of 300,000 instructions that would run for a long time. Each case must end in the project's own
error or in a correct result, within 2 seconds of processor time and 1 GB of additional memory. A result is correct
if another reader finds the same in the file: Python's `json`, `zipfile` and `pickle` (with functions replaced by
placeholders), and ten plain lines for safetensors, which the package reads with a library. A whole model is correct
if its tensors are those of the original and its config is what the changed JSON says. (`tests/fuzz/kinds.py`)

| kind of file | cases | our error | correct | wrong or crashed | slowest | most memory |
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
