"""All of it: write the model, measure, print. `ldm bench` runs our arm alone, `make bench` both."""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from ldm.errors import LdmError
from ldm.files.read_write import LARGEST_TEXT, atomic_path, read_text
from ldm.lab.bench.compare import OURS, WITHOUT, Measured, Turn, compare, remaining, turns
from ldm.lab.bench.machine import machine
from ldm.lab.bench.model import write_model
from ldm.lab.bench.sizes import FULL, QUICK
from ldm.lab.bench.table import Run, as_json, from_json, markdown
from ldm.text.tokenizer import Tokenizer

ARMS = {WITHOUT: "ldm.lab.bench.without", OURS: "ldm.lab.bench.ours"}


def bench(arms: Mapping[str, str], quick: bool, json: Path | None) -> str:
    """Measure the arms (name -> module) and return the page; `json` is where everything is kept.

    It keeps one run a machine, and the page shows them all. A run that was interrupted goes on, if machine and versions
    are the same; one that is complete is made anew. The full model takes 4 GB in the temporary folder. If the disk is
    slow, TMPDIR=/dev/shm has it in memory. Raises `LdmError` if every case failed.
    """
    about = machine()
    kept = [] if json is None else read_runs(json)
    others = [run for run in kept if (run.machine, run.quick) != (about, quick)]
    found = unfinished([run for run in kept if run not in others], arms)

    def runs(found: Measured) -> list[Run]:
        return [*others, Run(about, quick, found)]

    def keep(found: Measured) -> None:
        if json is not None:
            with atomic_path(json) as temporary:
                temporary.write_text(as_json(runs(found)), encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="ldm-bench-") as place:
        folder = Path(place) / "model"
        print("writing a model of random weights", file=sys.stderr)
        write_model(folder, (QUICK if quick else FULL).config, Tokenizer.clip())
        found = compare(arms, folder, quick, found, told, keep)
    if not found:
        raise LdmError("nothing could be measured; each case said why above")
    return markdown(runs(found))


def read_runs(json: Path) -> list[Run]:
    """What was measured before, here and elsewhere."""
    if not json.is_file():
        return []
    try:
        return from_json(read_text(json, LARGEST_TEXT))
    except (ValueError, TypeError, KeyError) as error:
        raise LdmError(
            f"cannot read the runs kept in {json}: {error!r}; restore the file, or remove it to begin anew"
        ) from error


def unfinished(kept: list[Run], arms: Mapping[str, str]) -> Measured:
    """What this machine's run found already, if it is not complete."""
    for run in kept:
        if remaining(turns(arms, run.quick), run.found):
            print("going on with this machine's run that was interrupted", file=sys.stderr)
            return run.found
    return {}


def told(order: list[Turn]) -> Iterator[Turn]:
    """The turns, with a progress bar that names the one that is being measured."""
    bar: Iterable[Turn] = tqdm(order, unit="process")
    for turn in bar:
        bar.set_postfix_str(f"{turn.case}, {turn.arm}")  # type: ignore[attr-defined]
        yield turn
