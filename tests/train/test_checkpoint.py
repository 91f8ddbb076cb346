r"""Stopping at any moment and resuming: real signals, damaged files, and runs that differ."""

import os
import resource
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from torch import nn

from ldm.config import TINY
from ldm.errors import LdmError
from ldm.train.checkpoint import fingerprint, graceful_interrupt
from ldm.train.loop import Recipe, train
from tests.train import killed

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = Recipe(steps=50, batch=1, lr=0.05, warmup=5, ema=0.9)


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    r"""A shell makes a background program ignore Ctrl-C; this fixture undoes that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def losing(module: nn.Module, at=None, do=None):
    r"""A loss that differs from step to step, and calls `do` when step `at` comes."""

    def loss_at(step: int) -> torch.Tensor:
        if step == at:
            do()
        return (module(torch.full((1, 3), step / 10)) - 1).square().mean()

    return loss_at


def same(a: object, b: object) -> bool:
    r"""Whether two nested structures are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_training_killed_twenty_times_ends_with_the_same_weights_bit_for_bit(tmp_path):
    command = [sys.executable, killed.__file__, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    kills, while_writing, begun = map(int, done.stdout.split())
    assert kills == killed.KILLS == 20 and while_writing > 0  # some hit the writing of a checkpoint
    assert 40 < begun < killed.RECIPE.steps  # some steps were done and some were left
    whole, cut = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "cut"))
    for state in (whole, cut):
        state["log"].pop("seconds")
        state["log"]["lines"] = [line[:2] for line in state["log"]["lines"]]
    assert whole["step"] == killed.RECIPE.steps and len(whole["log"]["lines"]) == killed.RECIPE.steps // 20
    for name in whole:
        assert same(whole[name], cut[name]), name
    losses = [
        [line.rpartition(",")[0] for line in (tmp_path / run / "log.csv").read_text().splitlines()]
        for run in ("whole", "cut")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == killed.RECIPE.steps // 20 + 1
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["checkpoint.pt", "log.csv", "loss.png"]


def test_ctrl_c_finishes_the_step_writes_a_checkpoint_and_says_how_to_go_on(tmp_path):
    whole, cut, again = network(), network(), network()
    expected = train(whole, losing(whole), RECIPE, tmp_path / "whole")
    told = "stopped after step 34 of 50; repeat the command with --resume to continue"
    with pytest.raises(KeyboardInterrupt, match=told):
        train(cut, losing(cut, 33, lambda: os.kill(os.getpid(), signal.SIGINT)), RECIPE, tmp_path / "cut")
    assert (
        torch.load(tmp_path / "cut/checkpoint.pt", weights_only=True)["step"] == 34
    )  # in the middle of a log line
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    average = train(again, losing(again), RECIPE, tmp_path / "cut", resume=True)
    assert same(average.state_dict(), expected.state_dict())
    lines = [(tmp_path / run / "log.csv").read_text().splitlines() for run in ("whole", "cut")]
    assert [[line.rpartition(",")[0] for line in run] for run in lines][0] == [
        line.rpartition(",")[0] for line in lines[1]
    ]


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), graceful_interrupt() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)  # the handler runs between two bytecodes
        pytest.fail("still here")


def test_in_another_thread_training_leaves_signals_alone(tmp_path):
    module, ended = network(), []
    work = threading.Thread(target=lambda: ended.append(train(module, losing(module), RECIPE, tmp_path)))
    work.start()
    work.join()
    assert len(ended) == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_paints_samples_sees_the_average_and_disturbs_nothing(tmp_path):
    seen, recipe = [], replace(RECIPE, checkpoint_minutes=0.0)

    def watch(average: nn.Module, path: Path) -> None:
        torch.rand(3)
        seen.append((path.name, [p.clone() for p in average.parameters()], average.training))

    def random_loss(module: nn.Module):
        return lambda step: (module(torch.randn(2, 3)) - 1).square().mean()

    ends = []
    for watcher in (None, watch):
        module = network()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            ends.append(
                train(module, random_loss(module), recipe, tmp_path, on_checkpoint=watcher).state_dict()
            )
    assert same(*ends)
    assert [name for name, _, _ in seen] == [f"samples-{step:06d}.png" for step in range(1, 51)]
    assert same(seen[-1][1], list(ends[1].values())) and not any(training for _, _, training in seen)


def test_a_parameter_that_gets_no_gradient_at_first_is_trained_and_resumed(tmp_path):
    r"""As a discriminator that begins later does."""

    def late(module: nn.Module, stop=None):
        def loss_at(step: int) -> torch.Tensor:
            if step == stop:
                raise ZeroDivisionError
            x = module["first"](torch.full((1, 3), step / 10))
            return (module["second"](x) if step >= 5 else x).square().mean()

        return loss_at

    def parts() -> nn.ModuleDict:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return nn.ModuleDict({"first": nn.Linear(3, 3), "second": nn.Linear(3, 1)})

    recipe = replace(RECIPE, steps=10, checkpoint_minutes=0.0)
    whole = parts()
    expected = train(whole, late(whole), recipe, tmp_path / "whole")
    for stop in (4, 7):
        cut, again = parts(), parts()
        with pytest.raises(ZeroDivisionError):
            train(cut, late(cut, stop), recipe, tmp_path / f"{stop}")
        assert same(
            train(again, late(again), recipe, tmp_path / f"{stop}", resume=True).state_dict(),
            expected.state_dict(),
        )


@pytest.fixture
def run(tmp_path) -> Path:
    module = network()
    train(module, losing(module), RECIPE, tmp_path / "run", identity={"seed": 3, "pictures": "abc"})
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("recipe", "identity", "differing"),
    [
        (RECIPE, {"seed": 4, "pictures": "abc"}, "seed was 3 and is 4"),
        (replace(RECIPE, lr=0.1), {"seed": 3, "pictures": "abc"}, "recipe.lr was 0.05 and is 0.1"),
        (RECIPE, {"seed": 4, "pictures": "acd"}, "pictures was abc and is acd; seed was 3 and is 4"),
        (RECIPE, {"seed": 3}, "pictures was abc and is absent"),
    ],
)
def test_a_run_with_other_inputs_is_not_continued(run, recipe, identity, differing):
    module = network()
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(
        LdmError, match=f"belongs to another run: {differing}. Give the values of that run, or start"
    ):
        train(module, losing(module), recipe, run, resume=True, identity=identity)
    assert same(before, list(module.parameters()))


def test_how_often_checkpoints_are_written_may_change(run):
    module = network()
    recipe = replace(RECIPE, checkpoint_minutes=1.0)
    train(
        module,
        losing(module, 0, pytest.fail),
        recipe,
        run,
        resume=True,
        identity={"seed": 3, "pictures": "abc"},
    )


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_of_a_weight(content: bytes) -> bytes:
    weight = torch.load(BytesIO(content), weights_only=True)["module"]["0.weight"].numpy().tobytes()
    at = content.index(weight)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def saved(state: object) -> bytes:
    file = BytesIO()
    torch.save(state, file)
    return file.getvalue()


def with_parts(**changes):
    r"""Whole as a file, but with other parts: as a checkpoint of another version, or somebody's mistake."""

    def change(content: bytes) -> bytes:
        state = torch.load(BytesIO(content), weights_only=True) | changes
        return saved({name: part for name, part in state.items() if part is not None})

    return change


def compressed(content: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


DAMAGES = {
    "truncated": cut_off,
    "one bit": one_bit_of_a_weight,
    "zero bytes": lambda content: b"",
    "garbage": lambda content: b"PK" * 9,
    "zeros": lambda content: bytes(len(content)),
    "a tensor": lambda content: saved(torch.zeros(3)),
    "a list": lambda content: saved([1, 2]),
    "another class": lambda content: saved({"x": Path("x")}),
    "compressed": compressed,
    "old version": with_parts(random=None),
    "a step of text": with_parts(step="34"),
    "no step yet": with_parts(step=-1),
    "a module of text": with_parts(module="weights"),
    "a log of text": with_parts(log={"lines": ["abc"], "recent": [], "seconds": 0.0}),
    "a log without seconds": with_parts(log={"lines": [], "recent": []}),
}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage, marks=pytest.mark.long if name.startswith(("a ", "no ")) else (), id=name)
        for name, damage in DAMAGES.items()
    ],
)
def test_a_damaged_checkpoint_says_so(run, damage):
    path = run / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    module = network()
    with pytest.raises(
        LdmError, match=r"checkpoint.pt is damaged or from another version \(.+start this stage again"
    ):
        train(module, losing(module), RECIPE, run, resume=True, identity={"seed": 3, "pictures": "abc"})


OTHERS = {
    "another module": with_parts(module=nn.Linear(2, 2).state_dict()),
    "another optimizer": with_parts(optimizer={"state": {}, "param_groups": []}),
    "no random state": with_parts(random={}),
    "a random state of floats": with_parts(random={"cpu": torch.zeros(3)}),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_model_says_so(run, other):
    path = run / "checkpoint.pt"
    path.write_bytes(other(path.read_bytes()))
    module = network()
    with pytest.raises(
        LdmError, match=r"checkpoint.pt belongs to another model \(.+start this stage again"
    ) as caught:
        train(module, losing(module), RECIPE, run, resume=True, identity={"seed": 3, "pictures": "abc"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["a folder", "a named pipe"])
def test_what_is_no_file_is_not_read_as_a_checkpoint(run, kind):
    (run / "checkpoint.pt").unlink()
    (os.mkfifo if kind == "a named pipe" else os.mkdir)(run / "checkpoint.pt")
    module = network()
    with pytest.raises(LdmError, match=f"cannot read .*checkpoint.pt: it is {kind}; expected a regular file"):
        train(module, losing(module), RECIPE, run, resume=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_disk_that_is_full_is_one_line_and_the_last_checkpoint_is_kept(tmp_path):
    r"""Simulated by a limit on file sizes: torch then raises its own error, without the reason."""
    module, recipe = network(), replace(RECIPE, checkpoint_minutes=0.0)
    with pytest.raises(ZeroDivisionError):
        train(module, losing(module, 7, lambda: 1 / 0), recipe, tmp_path / "run")
    before = (tmp_path / "run/checkpoint.pt").read_bytes()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        again = network()
        try:
            train(again, losing(again), recipe, tmp_path / "run", resume=True)
        except LdmError as error:
            (tmp_path / "said").write_text(str(error))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "said").read_text() == (
        f"cannot write {tmp_path}/run/checkpoint.pt: File too large; free some space and repeat the command with "
        "--resume to continue from the last checkpoint"
    )
    assert (tmp_path / "run/checkpoint.pt").read_bytes() == before
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint.pt", "log.csv"]
    train(module, losing(module), recipe, tmp_path / "run", resume=True)


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
@pytest.mark.parametrize("minutes", [0.0, 5.0])
def test_a_loss_that_is_not_finite_stops_training_at_its_step_and_keeps_the_checkpoint(
    tmp_path, wrong, minutes
):
    module = network()

    def loss_at(step: int) -> torch.Tensor:
        loss = losing(module)(step)
        if step != 33:
            return loss
        if wrong == "loss":
            return loss * torch.nan
        return (
            loss + torch.sqrt(module[0].weight - module[0].weight.detach()).sum()
        )  # 0, with a slope of infinity

    kept = "the checkpoint of step 33 is kept" if minutes == 0 else "there is no checkpoint yet"
    with pytest.raises(
        LdmError, match=f"run: the {wrong} of step 34 is not finite, so training stops; {kept}"
    ):
        train(module, loss_at, replace(RECIPE, checkpoint_minutes=minutes), tmp_path / "run")
    if minutes == 0:
        state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
        assert state["step"] == 33 and all(t.isfinite().all() for t in state["module"].values())
        assert all(t.isfinite().all() for t in state["average"].values())


def test_a_fingerprint_tells_inputs_apart(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = fingerprint(path)
    assert first == fingerprint(b"one") and len(first) == 16
    path.write_bytes(b"two")
    assert fingerprint(path) != first
    # Where one input ends and the next begins counts.
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")
    assert fingerprint(TINY.text) == fingerprint(replace(TINY.text))
    assert fingerprint(TINY.text) != fingerprint(replace(TINY.text, layers=5))
    assert fingerprint(TINY) != fingerprint(replace(TINY, text=replace(TINY.text, layers=5)))
