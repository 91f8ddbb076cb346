r"""What is in a checkpoint, told from headers alone: no tensor is read, and no code of the file is run."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ldm.config import Config
from ldm.convert.checkpoint import PART_NAMES, Checkpoint
from ldm.convert.configure import configure, lone_config
from ldm.convert.fitting import configs_of, fit, reason, skeletons
from ldm.convert.kinds import NAMES, SUPPORTED, family, foreign
from ldm.convert.known import lookup, sha256_of
from ldm.convert.locating import locate
from ldm.convert.names import some
from ldm.convert.opening import all_names, open_checkpoint, parameters
from ldm.convert.pickled import REFUSED, globals_of
from ldm.convert.readers import is_pickled
from ldm.errors import LdmError
from ldm.paths import expanded


@dataclass(frozen=True)
class Component:
    """One network in a checkpoint."""

    name: str
    parameters: int
    tensors: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What `inspect` found. `text()` is the same to read."""

    path: Path
    kind: str  # what it is, in words
    family: str | None  # a key of `ldm.convert.kinds.NAMES`
    supported: bool  # whether `ldm.load` opens it
    form: str
    config: Config | None
    components: tuple[Component, ...]
    ema: bool  # both averaged and live weights
    globals: dict[str, str]  # that its pickles ask for, each with a verdict
    hashes: dict[str, str]  # file -> SHA-256, if asked for
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()  # ignored
    altering: tuple[str, ...] = ()  # would change the numbers
    misshapen: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    trouble: str | None = None  # why it cannot be loaded

    @property
    def parameters(self) -> int:
        return sum(component.parameters for component in self.components)

    def text(self) -> str:
        """The report, one fact a line."""
        return "\n".join(_lines(self))


def inspect(path: Path, hash: bool = True) -> Report:
    """Look into a file or folder. `hash`: also compute the SHA-256 of its files, which reads them whole.

    Whatever can be opened gets a report, also what cannot be loaded. Raises `LdmError` for a file that is damaged, or
    is no file of weights at all.
    """
    path = locate(expanded(path)) or path
    files = weight_files(path)
    asked = {
        name: verdict for file in files if is_pickled(file) for name, verdict in globals_of(file).items()
    }
    hashes = {str(file): sha256_of(file) for file in files} if hash else {}
    refused = [name for name, verdict in asked.items() if verdict == REFUSED]
    if refused:
        trouble = f"it asks to run {some(refused)}: refused"
        return Report(
            path,
            "pickle that is refused",
            None,
            False,
            "not opened",
            None,
            (),
            False,
            asked,
            hashes,
            trouble=trouble,
        )
    checkpoint = open_checkpoint(path)
    kind, found, config, reason = _identify(checkpoint)
    components = tuple(
        Component(
            PART_NAMES[name],
            parameters(part.tensors),
            len(part.tensors),
            tuple(sorted({str(t.dtype).removeprefix("torch.") for t in part.tensors.values()})),
        )
        for name, part in sorted(checkpoint.parts.items())
    )
    report = Report(
        path, kind, found, reason is None, checkpoint.form, config, components, checkpoint.ema, asked, hashes,
        left_over=checkpoint.strange, dropped=checkpoint.dropped, trouble=reason,
    )  # fmt: skip
    return _compared(report, checkpoint)


def weight_files(path: Path) -> list[Path]:
    """The file itself, or every file of weights in a folder."""
    if not path.is_dir():
        return [path]
    return sorted(file for suffix in ("safetensors", "bin", "ckpt") for file in path.rglob(f"*.{suffix}"))


def _identify(checkpoint: Checkpoint) -> tuple[str, str | None, Config | None, str | None]:
    """What it is, its family, its config, and what stands in the way of loading it."""
    what = foreign(all_names(checkpoint))
    if what:
        return what, None, None, "it is no checkpoint of Stable Diffusion"
    try:
        found = family(checkpoint) if all(p.layout != "ours" for p in checkpoint.parts.values()) else None
    except LdmError as error:
        return "unknown model", None, None, str(error)
    if found is not None and found not in SUPPORTED:
        return NAMES[found], found, None, "not supported yet"
    try:
        config = configure(checkpoint)
    except LdmError as error:
        alone = [PART_NAMES[name] for name in checkpoint.parts]
        kind = NAMES[found] if found else f"{alone[0]} alone" if len(alone) == 1 else "unknown"
        return kind, found, None, str(error)
    name = config.name if config.name in NAMES else None
    return NAMES.get(config.name, f"model {config.name!r} of this project"), name, config, None


def _compared(report: Report, checkpoint: Checkpoint) -> Report:
    """The report with the names of tensors that do not fit."""
    try:
        if report.config is not None:
            configs = configs_of(report.config)
        elif report.kind.endswith(" alone") and "unet" not in checkpoint.parts:
            configs = {name: lone_config(checkpoint) for name in checkpoint.parts}
        else:
            return report
        found = fit(checkpoint, configs, skeletons(configs))
    except LdmError as error:
        return replace(report, supported=False, trouble=str(error))
    trouble = report.trouble
    if found.missing or found.misshapen:
        trouble = trouble or "tensors are missing or misshapen"
    elif found.altering:
        trouble = trouble or f"it has {reason(found)}"
    return replace(
        report, missing=found.missing, left_over=found.left_over, altering=found.altering,
        misshapen=found.misshapen, dropped=found.dropped, supported=trouble is None, trouble=trouble,
    )  # fmt: skip


def _lines(report: Report) -> Iterable[str]:
    yield f"{report.path}: {report.kind}"
    yield f"form        {report.form}"
    for part in report.components:
        yield f"{part.name:<19} {part.parameters:>13,} parameters in {part.tensors} tensors, {', '.join(part.dtypes)}"
    if len(report.components) > 1:
        yield f"{'in all':<19} {report.parameters:>13,} parameters"
    if report.config is not None:
        yield f"predicts    {report.config.noise.prediction}"
    if report.components:
        yield f"weights     {'both averaged (EMA) and live' if report.ema else 'one set'}"
    for file, digest in report.hashes.items():
        known = lookup(digest)
        said = (
            f"known: {known.name} of {known.repository}" if known else "not in the list of well-known files"
        )
        yield f"sha256      {digest}  {Path(file).name}: {said}"
    for name, verdict in report.globals.items():
        yield f"pickle asks for {name}: {verdict}"
    for what, names in (
        ("missing", report.missing), ("misshapen", report.misshapen), ("not possible", report.altering),
        ("ignored", report.left_over),
        ("not needed", report.dropped),
    ):  # fmt: skip
        if names:
            yield f"{what:<11} {len(names)}: {some(list(names))}"
    yield f"ldm.load    {'opens it' if report.trouble is None else 'does not open it: ' + report.trouble}"
