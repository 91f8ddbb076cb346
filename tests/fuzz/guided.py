r"""The same readers under atheris, which keeps the mutations that reach new branches: coverage-guided fuzzing.

    python -m tests.fuzz.guided TARGET [options of libFuzzer]      one target, until it is stopped

Anything but a return or an `LdmError` ends it, and leaves the input in a file. Atheris is the extra `fuzz`; where it
cannot be installed (it has wheels for Linux only), `make fuzz` says so and goes on without.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY = 1024  # MB above the start
START = 600  # MB: what torch takes before anything is read


@dataclass(frozen=True)
class Result:
    r"""What one target came to."""

    target: str
    seconds: int
    executions: int
    branches: int  # that were reached
    failure: str


def targets() -> dict[str, tuple[Callable[[bytes], object], list[bytes]]]:
    r"""For each target what it does with some bytes, and what to begin with."""
    from ldm.checkpoints.control_file import open_control
    from ldm.checkpoints.embedding_file import open_embedding
    from ldm.checkpoints.lora_file import open_lora
    from ldm.checkpoints.lora_fit import names_in
    from ldm.checkpoints.lora_write import all_changes
    from ldm.checkpoints.pickle_file import globals_of, read_pickled
    from ldm.checkpoints.plain_yaml import read_yaml
    from ldm.checkpoints.safetensors_file import map_tensors
    from ldm.checkpoints.tokenizer_io import tokenizer_from_text, tokenizer_text
    from ldm.checkpoints.unpickle import run as run_pickle
    from ldm.config import Config
    from ldm.images.metadata import read_record
    from tests.checkpoints.made import FAMILIES, tokenizer
    from tests.fuzz import loras, models, parts, texts, weights
    from tests.fuzz.mutate import unpacked

    folder = Path(tempfile.mkdtemp())

    def in_file(name: str, *readers: Callable[[Path], object]) -> Callable[[bytes], object]:
        def read(data: bytes) -> None:
            (folder / name).write_bytes(data)
            for reader in readers:
                reader(folder / name)

        return read

    def pickled(data: bytes) -> None:
        try:
            run_pickle(data)
        except ValueError:  # which `read_pickled` makes an LdmError
            pass

    def changes(path: Path) -> None:
        all_changes(open_lora(path), names_in("sd1"))

    names_in("sd1")  # kept from now on
    archives = weights.make_checkpoints(folder)
    programs = [
        entry.data for data in archives for entry in unpacked(data) if entry.name.endswith("data.pkl")
    ]
    words = tokenizer_text(tokenizer(FAMILIES["sd1"])).encode()
    return {
        "archive": (in_file("x.ckpt", globals_of, read_pickled), archives),
        "pickle": (pickled, programs),
        "safetensors": (in_file("x.safetensors", map_tensors), weights.make_headers(folder)),
        "lora": (in_file("x.safetensors", changes), loras.make_loras(folder)),
        "word": (in_file("x.safetensors", open_embedding), parts.make_words(folder)[:5]),
        "control": (in_file("x.safetensors", open_control), parts.make_controls(folder).files),
        "config": (
            lambda data: Config.from_json(data.decode(errors="replace")),
            [models.make_config(folder).encode()],
        ),
        "tokenizer": (lambda data: tokenizer_from_text(data.decode(errors="replace")), [words]),
        "yaml": (in_file("x.yaml", read_yaml), [models.YAML.encode()]),
        "record": (in_file("x.png", read_record), [texts.png(json.dumps(texts.RECORD).encode())]),
    }


NAMES = (
    *("archive", "pickle", "safetensors", "lora", "word", "control"),
    *("config", "tokenizer", "yaml", "record"),
)


def run(seconds: int) -> list[Result]:
    r"""Every target for its share of so many seconds, each in a process of its own. None if there is no atheris."""
    if not seconds or importlib.util.find_spec("atheris") is None:
        if seconds:
            print(
                "no atheris here: without coverage-guided fuzzing (pip install -e '.[fuzz]')", file=sys.stderr
            )
        return []
    return [_run(name, seconds // len(NAMES)) for name in NAMES]


def _run(name: str, seconds: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        options = [
            f"-max_total_time={seconds}",
            "-timeout=10",
            f"-rss_limit_mb={START + MEMORY}",
            "-max_len=20000",
        ]
        command = [sys.executable, "-m", "tests.fuzz.guided", name, *options, f"-artifact_prefix={folder}/"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        said = done.stdout + done.stderr
        executions = max(map(int, re.findall(r"^#(\d+)", said, re.M)), default=0)
        branches = max(map(int, re.findall(r" ft: (\d+)", said)), default=0)
        for left in sorted(Path(folder).iterdir()):
            kept = Path("outputs") / f"fuzz-{name}-{left.name}"
            kept.parent.mkdir(exist_ok=True)
            shutil.copy(left, kept)
        failure = f"{name}: exit status {done.returncode}: {said[-1500:]}" if done.returncode else ""
        return Result(name, seconds, executions, branches, failure)


def table(found: list[Result]) -> str:
    if not found:
        return "\nCoverage-guided fuzzing (atheris) was not run.\n"
    rows = ["\nCoverage-guided fuzzing with atheris, of the readers alone (`tests/fuzz/guided.py`):\n\n"]
    rows.append("| target | seconds | executions | features reached | failures |\n|---|--:|--:|--:|--:|\n")
    for r in found:
        rows.append(
            f"| {r.target} | {r.seconds} | {r.executions:,} | {r.branches:,} | {int(bool(r.failure))} |\n"
        )
    return "".join(rows)


def main() -> None:
    import atheris

    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["ldm"]):
        read, originals = targets()[name]
    from ldm.errors import LdmError

    def once(data: bytes) -> None:
        try:
            read(data)
        except LdmError:
            pass

    corpus = Path(tempfile.mkdtemp())
    for i, data in enumerate(originals):
        (corpus / str(i)).write_bytes(data)
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
