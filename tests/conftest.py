r"""What every test shares. Nothing is seeded here: a test that draws numbers makes its own generator."""

import gc
import math
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
os.environ["LDM_TRIALS"] = "off"  # what a test computes does not depend on the machine's speed

import pytest
import torch
from torch import Tensor, nn

from tests import shape_checks

REPOSITORY = Path(__file__).resolve().parents[1]

shape_checks.install()

# Sums are split by thread: with one thread their last bits do not depend on the machine's cores.
torch.set_num_threads(1)


# What is imported and collected stays to the end, so the garbage collector never needs to look through it.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    r"""The processes of `make test` must agree on the tests' names: none has an object's address in it."""
    for item in items:
        if " at 0x" in item.name:
            raise pytest.UsageError(f"{item.nodeid}: an address differs in each process; give `ids=`")


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    r"""`draw(2, 3)`: standard normal float64 numbers, new ones at each call, the same ones in each run."""
    generator = torch.Generator().manual_seed(20)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def randomise(draw: Callable[..., Tensor]) -> Callable[[nn.Module], nn.Module]:
    r"""Give *every* parameter of a module a random float64 value: layers that start at 0 or 1 hide faults."""

    def fill(module: nn.Module) -> nn.Module:
        module = module.double()
        for name, parameter in module.named_parameters():
            noise = draw(*parameter.shape)
            if name.rpartition(".")[2] == "bias":
                parameter.data = 0.1 * noise
            elif parameter.ndim < 2:  # the weight of a norm, a temperature
                parameter.data = 1 + 0.2 * noise
            else:
                parameter.data = noise / math.sqrt(parameter[0].numel())
        return module.eval()

    return fill
