"""All of it: write the model, measure, print. `ldm bench` runs our arm alone, `make bench` both."""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from json import loads as load_json
from pathlib import Path

from tqdm import tqdm

from ldm.bench.compare import OURS, WITHOUT, Measured, Turn, compare
from ldm.bench.machine import machine
from ldm.bench.model import write_model
from ldm.bench.sizes import FULL, QUICK
from ldm.bench.table import as_json, markdown
from ldm.errors import LdmError
from ldm.files import atomic_path
from ldm.text.tokenizer import Tokenizer

ARMS = {WITHOUT: "ldm.bench.without", OURS: "ldm.bench.ours"}


def bench(arms: Mapping[str, str], quick: bool, json: Path | None) -> str:
    """Measure the arms (name -> module) and return the table; `json` is where everything is kept.

    Beside it a file that ends in .part holds what was measured so far: interrupted, the next run goes on from there, if
    machine and versions are the same. The full model takes 4 GB in the temporary folder. If the disk is slow,
    TMPDIR=/dev/shm has it in memory. Raises `LdmError` if every case failed.
    """
    about = machine()
    part = None if json is None else json.with_name(json.name + ".part")
    before = None if part is None else measured_before(part, about, quick)
    with tempfile.TemporaryDirectory(prefix="ldm-bench-") as place:
        folder = Path(place) / "model"
        print("writing a model of random weights", file=sys.stderr)
        write_model(folder, (QUICK if quick else FULL).config, Tokenizer.clip())

        def keep(found: Measured) -> None:
            if part is not None:
                write(part, as_json(found, about, quick))

        found = compare(arms, folder, quick, before, told, keep)
    if not found:
        raise LdmError("nothing could be measured; each case said why above")
    if json is not None and part is not None:
        write(json, as_json(found, about, quick))
        part.unlink(missing_ok=True)
    return markdown(found, about, quick)


def measured_before(part: Path, about: Mapping[str, object], quick: bool) -> Measured | None:
    """What an interrupted run left, if it was of this machine, and of the same size."""
    if not part.is_file():
        return None
    try:
        left = load_json(part.read_text(encoding="utf-8"))
        same = (left["machine"], left["quick"]) == (dict(about), quick)
        found: Measured = left["processes"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LdmError(
            f"cannot read {part}, where a run left off: {error}; remove it to begin anew"
        ) from error
    if not same:
        raise LdmError(
            f"{part} was left by another machine, other versions or sizes; remove it to begin anew"
        )
    print(f"going on from {part}", file=sys.stderr)
    return found


def write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def told(order: list[Turn]) -> Iterator[Turn]:
    """The turns, with a progress bar that names the one that is being measured."""
    bar: Iterable[Turn] = tqdm(order, unit="process")
    for turn in bar:
        bar.set_postfix_str(f"{turn.case}, {turn.arm}")  # type: ignore[attr-defined]
        yield turn
