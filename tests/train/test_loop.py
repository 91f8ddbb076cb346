r"""The training loop: its arithmetic by hand, and interrupted runs."""

import errno
import math

import pytest
import torch
from torch import nn

from ldm.errors import LdmError
from ldm.nn.attention import Attention
from ldm.train.loop import Recipe, learning_rate, mixed_precision, train, update_ema

RECIPE = Recipe(steps=70, batch=1, lr=0.05, warmup=5, ema=0.9)


def network(seed: int = 1) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def noisy_loss(module: nn.Module, stop_at: int | None = None):
    r"""A loss that depends on the step, as real ones do; raises KeyboardInterrupt at step `stop_at`."""

    def loss_at(step: int) -> torch.Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return (module(x) - x[:, :2] * 2).square().mean()

    return loss_at


def losses(run) -> list[str]:
    r"""The lines of a run's log, without the time."""
    return [line.rpartition(",")[0] for line in (run / "log.csv").read_text().splitlines()[1:]]


def test_the_learning_rate_by_hand():
    r"""100 steps, of which 20 warm up, to 2: 1/20 of it at step 0, all of it at steps 19 and 20. The cosine then
    falls over 80 steps: at a quarter (step 40) to (1 + cos 45 deg) / 2, halfway (60) to 1/2, at the end to 0."""
    recipe = Recipe(steps=100, batch=1, lr=2.0, warmup=20)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[19] == rates[20] == 2.0
    assert rates[40] == pytest.approx(1 + math.sqrt(0.5)) and rates[60] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 + math.cos(math.pi * 79 / 80)) and rates[100] == pytest.approx(0)


def test_a_run_shorter_than_its_warm_up_never_reaches_the_full_rate():
    recipe = Recipe(steps=3, batch=1, lr=1.0, warmup=10)
    assert [learning_rate(recipe, step) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_the_moving_average_by_hand():
    r"""Decay 0.5 and weights 10, 20, 30 from an average of 0. The first d are 1/10 and 2/11, both below 0.5:
    0.9 * 10 = 9, then 9 * 2/11 + 20 * 9/11 = 18; at step 100, d = 0.5: 18/2 + 30/2 = 24."""
    average, module = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    average.weight.data.fill_(0.0)
    for step, value, expected in ((0, 10.0, 9.0), (1, 20.0, 18.0), (100, 30.0, 24.0)):
        module.weight.data.fill_(value)
        update_ema(average, module, 0.5, step)
        assert average.weight.item() == pytest.approx(expected, rel=1e-6)
        assert module.weight.item() == value


def test_the_average_of_a_module_that_stays_as_it_is_is_that_module():
    module = network()
    average = network()
    for step in range(50):
        update_ema(average, module, 0.99, step)
    for mean, parameter in zip(average.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mean, parameter, rtol=0, atol=1e-7)


def test_a_quadratic_finds_its_lowest_point(tmp_path):
    module = nn.Linear(1, 2, bias=False)
    module.weight.data.zero_()  # where the loss is 13
    goal = torch.tensor([[2.0], [-3.0]])
    recipe = Recipe(steps=300, batch=1, lr=0.05, warmup=10, ema=0.9, weight_decay=0.0)
    average = train(module, lambda step: (module.weight - goal).square().sum(), recipe, tmp_path / "run")
    torch.testing.assert_close(module.weight.data, goal, rtol=0, atol=1e-2)
    torch.testing.assert_close(average.weight.data, goal, rtol=0, atol=1e-2)
    values = [float(line.split(",")[1]) for line in losses(tmp_path / "run")]
    assert len(values) == 15 and values[-1] < 1e-3 < 5 < values[0]


def test_the_gradient_is_clipped_to_norm_1(tmp_path):
    module, seen = nn.Linear(1, 1, bias=False), []
    recipe = Recipe(steps=3, batch=1, lr=0.1, warmup=1)

    def loss_at(step: int) -> torch.Tensor:
        seen.append(None if module.weight.grad is None else abs(module.weight.grad.item()))
        return (module.weight * (1000.0, 0.5, 1.0)[step]).sum()

    train(module, loss_at, recipe, tmp_path)
    assert seen == [None, pytest.approx(1.0, abs=1e-5), pytest.approx(0.5)]


def test_what_comes_back_is_the_average_with_its_gradients_off(tmp_path):
    module = network()
    average = train(module, noisy_loss(module), RECIPE, tmp_path)
    assert not average.training and not any(p.requires_grad for p in average.parameters())
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for name, tensor in average.state_dict().items():
        assert torch.equal(saved["average"][name], tensor)
        assert not torch.equal(module.state_dict()[name], tensor)


def test_plain_attention_is_used_while_training(tmp_path):
    module = nn.Sequential(Attention(4, 2))
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    train(module, lambda step: module(x).square().mean(), Recipe(1, 1, 0.1), tmp_path)
    assert module[0].by_hand


def test_the_log_holds_the_mean_loss_of_every_20_steps(tmp_path):
    # Losses 0, 1, 2, ...: means 9.5 and 29.5; steps 41 to 45 fill no line.
    module = nn.Linear(1, 1)
    train(module, lambda step: 0 * module.weight.sum() + step, Recipe(45, 1, 0.1), tmp_path)
    assert (tmp_path / "log.csv").read_text().startswith("step,loss,seconds\n")
    assert losses(tmp_path) == ["20,9.500000", "40,29.500000"]


@pytest.mark.parametrize(
    "stop_at", [pytest.param(20, marks=pytest.mark.long), 47, pytest.param(69, marks=pytest.mark.long)]
)
def test_a_run_cut_off_and_resumed_equals_one_in_one_go_bit_for_bit(tmp_path, stop_at):
    often = Recipe(**{**vars(RECIPE), "checkpoint_minutes": 0.0})
    whole = network()
    expected = train(whole, noisy_loss(whole), often, tmp_path / "whole")

    cut, again = network(), network(seed=2)  # what a resumed run starts from must not matter
    with pytest.raises(KeyboardInterrupt):
        train(cut, noisy_loss(cut, stop_at), often, tmp_path / "cut")
    resumed = train(again, noisy_loss(again), often, tmp_path / "cut", resume=True)
    for module, other in ((expected, resumed), (whole, again)):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_lines_logged_after_the_last_checkpoint_are_not_there_twice(tmp_path):
    # There is no checkpoint yet, so the resumed run and its log start again.
    module = network()
    with pytest.raises(KeyboardInterrupt):
        train(module, noisy_loss(module, 50), RECIPE, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
    module = network()
    train(module, noisy_loss(module), RECIPE, tmp_path, resume=True)
    assert [line.split(",")[0] for line in losses(tmp_path)] == ["20", "40", "60"]


def test_a_finished_run_is_resumed_without_a_step(tmp_path):
    module = network()
    expected = train(module, noisy_loss(module), RECIPE, tmp_path)
    other = network(seed=2)
    average = train(other, noisy_loss(other, stop_at=0), RECIPE, tmp_path, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), expected.parameters(), strict=True))


def test_without_resume_a_run_begins_anew(tmp_path):
    first, second = network(), network()
    train(first, noisy_loss(first), RECIPE, tmp_path)
    train(second, noisy_loss(second), RECIPE, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_checkpoint_cut_off_while_it_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    often = Recipe(**{**vars(RECIPE), "checkpoint_minutes": 0.0})
    save, saves = torch.save, []

    def save_half(state, file):
        saves.append(state["step"])
        if len(saves) == 2:
            file.write(b"half a checkpo")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", save_half)
    module = network()
    with pytest.raises(
        LdmError, match="cannot write .*checkpoint.pt: No space left on device; free some space"
    ):
        train(module, noisy_loss(module), often, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == saves[0] < saves[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "log.csv"]


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({}, torch.float32),
        ({"amx_bf16": False, "avx512_bf16": False}, torch.float32),
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
    ],
)
def test_half_precision_is_used_only_where_the_cpu_has_instructions_for_it(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    linear, x = nn.Linear(4, 4), torch.ones(2, 4)
    with mixed_precision():
        assert linear(x).dtype == dtype
    assert linear.weight.dtype == torch.float32 and linear(x).dtype == torch.float32
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.float64)
    with mixed_precision():  # float64 is a request for more precision, not less
        assert linear(x).dtype == torch.float32


def test_half_precision_is_not_used_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    with mixed_precision():
        assert nn.Linear(4, 4)(torch.ones(2, 4)).dtype == torch.float32
