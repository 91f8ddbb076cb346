"""All of it: write the model, measure, print. `ldm bench` runs our arm alone, `make bench` both."""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from ldm.bench.compare import OURS, Turn, compare
from ldm.bench.machine import machine
from ldm.bench.model import write_model
from ldm.bench.sizes import FULL, QUICK
from ldm.bench.table import as_json, markdown
from ldm.errors import LdmError
from ldm.files import atomic_path
from ldm.text.tokenizer import Tokenizer

ARM = {OURS: "ldm.bench.ours"}


def bench(arms: Mapping[str, str], quick: bool, json: Path | None) -> str:
    """Measure the arms (name -> module) and return the table; `json` is where everything is kept.

    The full model takes 4 GB in the temporary folder. If the disk is slow, TMPDIR=/dev/shm has it in memory. Raises
    `LdmError` if every case failed.
    """
    with tempfile.TemporaryDirectory(prefix="ldm-bench-") as place:
        folder = Path(place) / "model"
        print("writing a model of random weights", file=sys.stderr)
        write_model(folder, (QUICK if quick else FULL).config, Tokenizer.clip())
        found = compare(arms, folder, quick, told)
    if not found:
        raise LdmError("nothing could be measured; each case said why above")
    about = machine()
    if json is not None:
        with atomic_path(json) as temporary:
            temporary.write_text(as_json(found, about, quick), encoding="utf-8")
    return markdown(found, about, quick)


def told(order: list[Turn]) -> Iterator[Turn]:
    """The turns, with a progress bar that names the one that is being measured."""
    bar: Iterable[Turn] = tqdm(order, unit="process")
    for turn in bar:
        bar.set_postfix_str(f"{turn.case}, {turn.arm}")  # type: ignore[attr-defined]
        yield turn
