r"""Tables of noise are recognised for the schedules that they are."""

from dataclasses import replace

import pytest
import torch

from ldm.checkpoints.schedules import schedule_of, schedule_of_betas
from ldm.config import NoiseConfig
from ldm.diffusion.schedule import make_alpha_bar, make_betas
from ldm.errors import LdmError

NOISE = NoiseConfig(prediction="v")


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("schedule", ["scaled_linear", "linear", "cosine"])
def test_every_schedule_is_recognised_by_its_table_in_every_dtype(schedule, zero_snr):
    noise = replace(NOISE, schedule=schedule, zero_snr=zero_snr)
    table = make_alpha_bar(noise)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        if (schedule, dtype) != ("cosine", torch.bfloat16):  # whose end is nearly zero either way
            assert schedule_of(table.to(dtype), NOISE) == noise


def test_a_table_by_hand_is_no_schedule_of_ours():
    for table in (
        torch.linspace(1, 0.01, 1000),
        torch.zeros(1000),
        torch.full((1000,), float("nan")),
        torch.ones(1),
        torch.ones(3, 3),
        torch.ones(4, dtype=torch.int64),
        torch.ones(4, dtype=torch.complex64),
        make_alpha_bar(NOISE).to(torch.float8_e5m2),  # too coarse to tell
    ):
        assert schedule_of(table, NOISE) is None


def test_betas_are_recognised_with_their_ends():
    noise = replace(NOISE, schedule="linear", beta_start=0.001, beta_end=0.02, steps=500)
    found = schedule_of_betas(make_betas(noise).tolist(), NOISE)
    assert (found.schedule, found.steps, found.zero_snr) == ("linear", 500, False)
    assert torch.allclose(make_alpha_bar(found), make_alpha_bar(noise), rtol=1e-5)
    noise = replace(NOISE, zero_snr=True)
    assert schedule_of_betas(make_betas(noise).tolist(), NOISE) == noise


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        (0.1, "trained_betas = 0.1; expected a list of 2 to 100,000 numbers"),
        ([0.1, "x"], "expected a list of 2 to 100,000 numbers"),
        ([0.1, True], "expected a list of 2 to 100,000 numbers"),
        ([0.1, float("nan")], "expected a list of 2 to 100,000 numbers"),
        ([0.1, -1], "expected a list of 2 to 100,000 numbers"),
        ([0.1], r"trained_betas = \[0.1\]; expected a list of 2 to 100,000"),
        ([0.1, 0.3, 0.2], "neither linear, scaled_linear nor squaredcos_cap_v2"),
    ],
)
def test_other_betas_are_an_error(betas, message):
    with pytest.raises(LdmError, match=message):
        schedule_of_betas(betas, NOISE)
