r"""Whatever fails while something is written, at whichever moment: nothing is lost, and the next run succeeds."""

import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import ldm.files.read_write
from ldm.checkpoints.write import convert, export
from ldm.cli import main, new
from ldm.cli.generation import load_model
from ldm.errors import LdmError
from ldm.files.leftovers import recover
from ldm.train.loop import Recipe, train
from tests.checkpoints.made import FAMILIES, random_tensors, save, single_file
from tests.crash.faults import disk_full, failing, killed_at
from tests.small import write_small_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
Contents = dict[str, bytes]


@dataclass(frozen=True)
class Job:
    r"""Something that writes into a folder, which holds the work of an earlier run."""

    prepare: Callable[[Path], object]
    do: Callable[[Path], object]  # raises `LdmError` if it fails
    look: Callable[[Path], Contents]  # what there is, as far as it does not depend on the time of day
    whole: Callable[[Contents, Contents, Contents], bool]  # whether what was found is the old or the new


def contents(folder: Path) -> Contents:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


CONFIG = FAMILIES["sd1"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    r"""Two models of one kind; the second takes the place of the first."""
    folder = tmp_path_factory.mktemp("models")
    return [
        save(folder / f"v1-{seed}.safetensors", CONFIG, single_file(CONFIG, random_tensors(CONFIG, seed)))
        for seed in (0, 1)
    ]


def converting(write: Callable[..., object], name: str, models: list[Path], *arguments: str) -> Job:
    old, new = models
    return Job(
        lambda folder: write(old, folder / name, *arguments),
        lambda folder: write(new, folder / name, *arguments, force=True),
        contents,
        lambda found, before, after: found in (before, after),
    )


def training() -> Job:
    def do(folder: Path, resume: bool = True, steps: int = 3) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            module = nn.Linear(3, 1)
        recipe = Recipe(steps=3, batch=1, lr=0.1, warmup=1, checkpoint_minutes=0.0)

        def loss_at(step: int) -> torch.Tensor:
            if step == steps:
                raise LdmError("as far as it got")
            return module(torch.full((1, 3), step + 1.0)).square().mean()

        train(module, loss_at, recipe, folder / "run", resume=resume)

    def prepare(folder: Path) -> None:
        with pytest.raises(LdmError, match="as far as it got"):
            do(folder, resume=False, steps=1)

    def look(folder: Path) -> Contents:
        found = contents(folder)
        state = torch.load(BytesIO(found["run/checkpoint.pt"]), weights_only=True)  # whole, or this fails
        weights = state["module"]["weight"].numpy().tobytes()
        return dict.fromkeys(found, b"") | {"run/checkpoint.pt": weights, "step": bytes([state["step"]])}

    return Job(
        prepare, do, look, lambda found, before, after: before["step"] <= found["step"] <= after["step"]
    )


def painting(model: str, monkeypatch) -> Job:
    r"""`--prompts`: of four images, the earlier run has painted one."""
    loaded = load_model(model)
    monkeypatch.setattr(new, "load_model", lambda *_, **__: loaded)
    monkeypatch.setattr(
        new,
        "generate_group",
        lambda model, record, *_, **__: [
            Image.new("RGB", (16, 16), "red") for _ in range(record.group.count)
        ],
    )

    def do(folder: Path) -> None:
        told = [TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2)]
        (folder.parent / "list.txt").write_text("a dog\nred dog\n\nred\ndog\n")
        options = ("--prompts", folder.parent / "list.txt", "--model", model, "--out", folder / "out")
        with redirect_stdout(told[0]), redirect_stderr(told[1]):
            code = main(["generate", *map(str, options)])
        if code:
            told[1].seek(0)
            raise LdmError(told[1].read().splitlines()[-1])

    def prepare(folder: Path) -> None:
        do(folder)
        for name in ("00002-1.png", "00004-2.png", "00005-3.png"):
            (folder / "out" / name).unlink()

    return Job(
        prepare, do, contents, lambda found, before, after: before.items() <= found.items() <= after.items()
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_small_model(tmp_path_factory.mktemp("model") / "small"))


@pytest.fixture
def job(request, models, monkeypatch) -> Job:
    if request.param == "convert":
        return converting(convert, "m", models)
    if request.param.startswith("export"):
        to = request.param.split()[-1]
        return converting(export, "m.safetensors" if to == "compvis" else "m", models, to)
    if request.param == "train":
        return training()
    return painting(request.getfixturevalue("model"), monkeypatch)


@pytest.fixture
def began(job, tmp_path) -> tuple[Contents, Contents]:
    r"""The old and the new; `tmp_path`/start is what each attempt begins with."""
    job.prepare(tmp_path / "start")
    shutil.copytree(tmp_path / "start", tmp_path / "end")
    job.do(tmp_path / "end")
    before, after = job.look(tmp_path / "start"), job.look(tmp_path / "end")
    assert before != after
    return before, after


def anew(tmp_path: Path) -> Path:
    r"""A folder as the earlier run left it."""
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    shutil.copytree(tmp_path / "start", tmp_path / "work")
    return tmp_path / "work"


def shown(found: Contents) -> Contents:
    r"""Without temporary files, which a killed process cannot remove."""
    return {name: data for name, data in found.items() if "/." not in f"/{name}"}


JOBS = ["convert", "export to diffusers", "export to compvis"]
LONG_JOBS = [pytest.param(name, marks=pytest.mark.long) for name in JOBS]


@pytest.mark.parametrize("job", ["train", "prompts", *LONG_JOBS], indirect=True)
def test_a_disk_that_becomes_full_at_any_moment_costs_nothing_but_the_run(job, began, tmp_path):
    at, met = 0, True
    while met:
        work = anew(tmp_path)
        with failing(at, disk_full, work) as moments:
            try:
                job.do(work)
                raised = None
            except LdmError as error:
                raised = str(error)
        met = len(moments) > at
        if met:
            assert raised and "No space left on device" in raised and "\n" not in raised, (
                moments[at],
                raised,
            )
            assert job.whole(job.look(work), *began), moments[at]
            assert not [name for name in contents(work) if "/." in f"/{name}"], moments[at]
        elif raised:
            raise AssertionError(raised)
        job.do(work)
        assert job.look(work) == began[1], moments[at:]
        at += 1
    assert at > 5


@pytest.mark.long
@pytest.mark.parametrize("job", ["train", "prompts", *JOBS], indirect=True)
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_kill_at_any_moment_costs_nothing_but_the_run(job, began, tmp_path, monkeypatch, exchanges):
    at, met = 0, True
    if not exchanges:
        monkeypatch.setattr(ldm.files.read_write, "exchange", lambda one, other: False)
        work = anew(tmp_path)
        with failing(10**9, disk_full, work) as moments:
            job.do(work)
        at = max(0, len(moments) - 8)  # what differs from an exchange is at the end
    while met:
        work = anew(tmp_path)
        met = killed_at(at, lambda work=work: job.do(work), work)
        recover(work / "m")  # as `ldm.load` does
        assert job.whole(shown(job.look(work)), *began), at
        job.do(work)
        assert job.look(work) == began[1], at
        at += 1
    assert at > 5
