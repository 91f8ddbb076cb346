r"""What is in a checkpoint, told from headers: no code of the file is run.

Numbers are read for two purposes only, which can be left out together: a file's hash, and the search for NaN. (And the
noise schedule, a table of 1000 numbers, where a file has one.)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ldm.checkpoints.checkpoint import PART_NAMES, Checkpoint
from ldm.checkpoints.collect import collect_from
from ldm.checkpoints.control_file import about_control
from ldm.checkpoints.detect import NAMES, SUPPORTED, family, foreign_class
from ldm.checkpoints.embedding_file import about_embedding
from ldm.checkpoints.foreign import CONTROL, INVERSION, LORA, TINY, foreign
from ldm.checkpoints.formats import is_pickled
from ldm.checkpoints.infer_config import configure, lone_config
from ldm.checkpoints.known import lookup
from ldm.checkpoints.locating import locate
from ldm.checkpoints.lora_about import about
from ldm.checkpoints.lora_file import open_lora
from ldm.checkpoints.opening import all_names, open_checkpoint, parameters
from ldm.checkpoints.pickle_file import REFUSED, globals_of
from ldm.checkpoints.tiny_file import about_tiny
from ldm.checkpoints.validate import Comparison, check_finite, compare, configs_of, meta_model
from ldm.config import Config
from ldm.errors import LdmError, some
from ldm.files.paths import expanded
from ldm.files.read_write import sha256
from ldm.notes import collect_notes, log


@dataclass(frozen=True)
class Report:
    """What `inspect` found. `text()` is the same to read."""

    path: Path
    kind: str  # what it is, in words
    globals: dict[str, str]  # that its pickles ask for, each with a verdict
    hashes: dict[str, str]  # file -> SHA-256, if asked for
    trouble: str | None  # why `ldm.load` does not open it; None if it does
    checkpoint: Checkpoint | None = None  # None: it was not opened
    family: str | None = None  # a key of `ldm.checkpoints.detect.NAMES`
    config: Config | None = None
    compared: Comparison = field(default_factory=lambda: Comparison({}, (), (), (), (), ()))
    notes: tuple[str, ...] = ()  # what was assumed where the file does not say it, or is not followed
    facts: tuple[tuple[str, str], ...] = ()  # about an adapter or a tiny VAE, each with a heading

    @property
    def supported(self) -> bool:
        return self.trouble is None

    @property
    def parameters(self) -> dict[str, int]:
        """How many parameters each network has."""
        parts = sorted(self.checkpoint.parts.items()) if self.checkpoint else ()
        return {PART_NAMES[name]: parameters(part.tensors) for name, part in parts}

    def text(self) -> str:
        """The report, one fact a line."""
        return "\n".join(_lines(self))


def inspect(path: Path, hash: bool = True) -> Report:
    """Look into a file or folder. `hash`: also compute the SHA-256 of its files and look for NaN; both read all.

    Whatever can be opened gets a report, also what cannot be loaded. Raises `LdmError` for a file that is damaged, or
    not a file of weights at all.
    """
    path = locate(expanded(path)) or path
    files = [path]
    if path.is_dir():
        files = sorted(f for suffix in ("safetensors", "bin", "ckpt") for f in path.rglob(f"*.{suffix}"))
    asked = {name: verdict for f in files if is_pickled(f) for name, verdict in globals_of(f).items()}
    hashes = {str(file): sha256(file) for file in files} if hash else {}
    refused = [name for name, verdict in asked.items() if verdict == REFUSED]
    if refused:
        why = f"it asks to run {some(refused)}: refused"
        return Report(path, "pickle that is refused", asked, hashes, why)
    with collect_notes() as notes:
        checkpoint = open_checkpoint(path)
        kind, found, config = _identify(checkpoint)
        trouble = _trouble(checkpoint, numbers=hash)
        compared = _compare(checkpoint, kind, config)
    facts = tuple(_facts(path, kind))
    return Report(
        path, kind, asked, hashes, trouble, checkpoint, found, config, compared, tuple(notes), facts
    )


def _facts(path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """What is said about a file that changes a model and is none, each fact with a heading."""
    if kind == LORA:
        yield from about(open_lora(path))
    if kind == CONTROL:
        yield from about_control(path)
    if kind == INVERSION:
        yield from about_embedding(path)
    if kind == TINY:
        yield from about_tiny(path)


def _trouble(checkpoint: Checkpoint, numbers: bool) -> str | None:
    """Why `ldm.load` does not open it, None if it does: by the very functions that `load` calls.

    `numbers`: also look for NaN and infinity, which reads all of them. In float32 they are only noted: load looks at
    numbers when it converts them or moves them to a GPU, and those in float32 it may use as they are.
    """
    try:
        made = collect_from(checkpoint)
        for part, tensors in made.tensors.items() if numbers else ():
            for name, tensor in tensors.items():
                try:
                    check_finite({name: tensor}, checkpoint.parts[part].source, part)
                except LdmError as error:
                    if tensor.dtype != torch.float32:
                        raise
                    log.warning(
                        f"{error}. load refuses it if it converts the numbers, convert and export always"
                    )
    except LdmError as error:
        return str(error)
    return None


def _identify(checkpoint: Checkpoint) -> tuple[str, str | None, Config | None]:
    """What it is, its family, and its config, as far as they can be told."""
    what = foreign(all_names(checkpoint)) or foreign_class(checkpoint.settings)
    if checkpoint.trouble == f"it is {INVERSION}":
        what = INVERSION
    try:
        found = family(checkpoint) if all(p.layout != "ours" for p in checkpoint.parts.values()) else None
    except LdmError:
        return what or "unknown model", None, None
    if what or (found is not None and found not in SUPPORTED):
        return what or NAMES[found or ""], found, None
    try:
        config = configure(checkpoint)
    except LdmError:
        alone = [PART_NAMES[name] for name in checkpoint.parts]
        kind = NAMES[found] if found else f"{alone[0]} alone" if len(alone) == 1 else "unknown"
        return kind, found, None
    name = config.name if config.name in NAMES else None
    return NAMES.get(config.name, f"model {config.name!r} of this project"), name, config


def _compare(checkpoint: Checkpoint, kind: str, config: Config | None) -> Comparison:
    """Its tensors compared with those of its config, or of the network that it holds alone, if it can be compared."""
    try:
        configs = configs_of(config) if config else {}
        if kind.endswith(" alone") and "unet" not in checkpoint.parts:
            configs = {name: lone_config(checkpoint) for name in checkpoint.parts}
        return compare(checkpoint, configs, {name: meta_model(name, configs[name]) for name in configs})
    except LdmError:  # `_trouble` says it
        return compare(checkpoint, {}, {})


def _which(path: Path) -> str:
    """Whether one set of weights is averaged or live: at most its name may tell."""
    name = path.name.lower().replace("non-ema", "nonema").replace("no-ema", "nonema")
    words = set(re.split(r"[^a-z0-9]+", name))
    if "nonema" in words:
        return "live by the file's name"
    if words & {"ema", "emaonly"}:
        return "averaged (EMA) by the file's name"
    return "of which nothing says whether they are averaged (EMA) or live"


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.path}: {report.kind}"
    yield f"form        {report.checkpoint.form if report.checkpoint else 'not opened'}"
    for heading, fact in report.facts:
        yield f"{heading:<11} {fact}"
    for name, part in sorted(report.checkpoint.parts.items()) if report.checkpoint else ():
        number, dtypes = (
            report.parameters[PART_NAMES[name]],
            {str(t.dtype)[6:] for t in part.tensors.values()},
        )
        label = "ControlNet" if report.kind == CONTROL else PART_NAMES[name]
        tensors = f"{len(part.tensors)} tensors, {', '.join(sorted(dtypes))}"
        yield f"{label:<19} {number:>13,} parameters in {tensors}"
    if len(report.parameters) > 1:
        yield f"{'in all':<19} {sum(report.parameters.values()):>13,} parameters"
    if report.config is not None:
        yield f"predicts    {report.config.noise.prediction}"
    if report.checkpoint and report.parameters:
        both = report.checkpoint.ema
        yield f"weights     {'both averaged (EMA) and live' if both else 'one set, ' + _which(report.path)}"
    for file, digest in report.hashes.items():
        known = lookup(digest)
        said = f"known: {known.name} of {known.repository}" if known else "not a well-known file"
        yield f"sha256      {digest}  {Path(file).name}: {said}"
    for name, verdict in report.globals.items():
        yield f"pickle asks for {name}: {verdict}"
    found = report.compared
    for what, names in (
        ("missing", found.missing), ("misshapen", found.misshapen), ("not possible", found.altering),
        ("ignored", found.ignored), ("not needed", found.dropped),
    ):  # fmt: skip
        if names and not report.facts:
            yield f"{what:<11} {len(names)}: {some(names)}"
    for line in report.notes:
        yield f"note        {line}"
    if report.parameters and not report.hashes:
        yield "numbers     not looked at: load refuses NaN and infinity where it has to convert them"
    yield f"ldm.load    {'opens it' if report.trouble is None else 'does not open it: ' + report.trouble}"
