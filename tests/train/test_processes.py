r"""Data-parallel training gives the weights of a single process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ldm.errors import LdmError
from ldm.train import processes
from ldm.train.processes import (
    all_gather,
    average_gradients,
    barrier,
    mean_over_ranks,
    process_group,
    rank,
    slice_for_rank,
    world_size,
)
from tests.small import write_small_model
from tests.train import shared_batch

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    r"""The results of one process and of each of two under torchrun: (world size, rank) -> values."""
    results = {}
    for count in (1, 2):
        folder = write_small_model(tmp_path_factory.mktemp("model"))
        torchrun = (
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if count == 2 else []
        )
        command = [sys.executable, *torchrun, shared_batch.__file__, str(folder)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        for i in range(count):
            results[count, i] = torch.load(folder / f"found-{count}-{i}.pt", weights_only=True)
    return results


@pytest.mark.long
@pytest.mark.parametrize("stage", ["clip", "vae", "diffusion"])
def test_two_processes_learn_the_weights_that_one_learns_from_the_same_batch(found, stage):
    alone = found[1, 0]["averages"][stage]
    assert all(tensor.dtype == torch.float64 for tensor in alone.values())
    for i in range(2):
        together = found[2, i]["averages"][stage]
        assert together.keys() == alone.keys()
        for name in alone:
            torch.testing.assert_close(together[name], alone[name], rtol=0, atol=1e-9, msg=name)
    # The comparison is meaningful: a step moved the weights by far more than the tolerance.
    assert sum((t - t.half().double()).abs().sum() for t in alone.values()) > 1e-3


@pytest.mark.long
def test_two_processes_compare_images_with_the_same_wrong_captions_as_one_or_with_none(found):
    alone = found[1, 0]["clip losses"]
    assert alone["scenes"] != pytest.approx(alone["captions"], abs=1e-3)
    for i in range(2):
        assert found[2, i]["clip losses"] == pytest.approx(alone, abs=1e-12)


@pytest.mark.long
def test_gathered_rows_are_in_batch_order_and_gradients_return_to_their_process(found):
    rows = shared_batch.ROWS.clone().requires_grad_(True)
    shared_batch.loss_of_all(rows).backward()
    for i in range(2):
        everyone, gradient = found[2, i]["gather"]
        assert torch.equal(everyone, shared_batch.ROWS)
        # Both processes computed this loss, so the gradient is doubled; the mean over processes halves it.
        torch.testing.assert_close(gradient, 2 * rows.grad[2 * i : 2 * i + 2], rtol=0, atol=1e-12)


@pytest.mark.long
def test_gradients_are_averaged_and_parameters_without_one_left_alone(found):
    for i in range(2):
        used, unused = found[2, i]["gradients"]
        assert torch.equal(used, torch.full((2, 2), 1.5, dtype=torch.float64)) and unused is None
        assert found[2, i]["mean"] == [1.5, 5.0]


def test_a_single_process_takes_the_whole_batch_and_waits_for_nobody():
    assert (rank(), world_size(), slice_for_rank(7)) == (0, 1, slice(0, 7)) and mean_over_ranks(3.0, 4.0) == [
        3.0,
        4.0,
    ]
    x = torch.ones(2, 2)
    assert all_gather(x) is x
    layer = torch.nn.Linear(2, 1)
    layer.weight.grad = torch.ones(1, 2)
    average_gradients(layer)
    assert torch.equal(layer.weight.grad, torch.ones(1, 2))
    barrier()
    with process_group():  # no torchrun here
        assert world_size() == 1 and not torch.distributed.is_initialized()


def test_a_batch_that_cannot_be_split_evenly_says_what_to_do(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert slice_for_rank(12) == slice(4, 8)
    with pytest.raises(LdmError, match=r"batch of 8 for 3 processes; .+ \(--nproc-per-node\) that divides 8"):
        slice_for_rank(8)
