r"""The timestep embedding."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from ldm.unet.embedding import TimeEmbedding, timestep_embedding


def test_one_timestep_by_hand():
    r"""t = 1, width 4, so two frequencies: 10000^0 = 1 and 10000^(-1/2) = 1/100. Cosines first:

    cos 1 = 0.5403023, cos 0.01 = 0.9999500, sin 1 = 0.8414710, sin 0.01 = 0.0099998.
    """
    out = timestep_embedding(torch.tensor([1]), 4)
    expected = torch.tensor([[0.5403023, 0.9999500, 0.8414710, 0.0099998]])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


def test_at_time_zero_all_cosines_are_one_and_all_sines_zero():
    assert timestep_embedding(torch.tensor([0]), 6).tolist() == [[1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("width", [2, 96, 320])
def test_the_embedding_equals_its_formula_in_float64(width):
    t = np.array([0, 1, 17, 500, 999])
    angle = t[:, None] * 10_000.0 ** (-np.arange(width // 2) / (width // 2))
    expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    # float32 keeps an angle of 999 to 999 * 2^-24, some 6e-5.
    np.testing.assert_allclose(timestep_embedding(torch.tensor(t), width).numpy(), expected, atol=2e-4)


def test_every_embedding_has_the_same_length():
    # cos^2 + sin^2 = 1 for each of the 160 frequencies.
    norms = timestep_embedding(torch.arange(1000), 320).square().sum(-1)
    torch.testing.assert_close(norms, torch.full((1000,), 160.0), rtol=1e-5, atol=0)


def test_no_two_timesteps_look_alike():
    embedding = timestep_embedding(torch.arange(1000), 96)
    distances = torch.cdist(embedding, embedding) + 9 * torch.eye(1000)
    assert distances.min() > 0.1


def test_fractional_timesteps_are_allowed():
    [out] = timestep_embedding(torch.tensor([0.5]), 2).tolist()
    assert out == pytest.approx([math.cos(0.5), math.sin(0.5)], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.float16])
def test_sines_are_computed_in_float32_whatever_comes_in(dtype):
    out = timestep_embedding(torch.tensor([999], dtype=dtype), 32)
    assert out.dtype == torch.float32
    assert torch.equal(out, timestep_embedding(torch.tensor([999]), 32))


def test_the_mlp_equals_numpy(randomise):
    module, t = randomise(TimeEmbedding(6, 10)), torch.tensor([3, 700])
    p = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    h = timestep_embedding(t, 6).double().numpy() @ p["linear_1.weight"].T + p["linear_1.bias"]
    expected = (h / (1 + np.exp(-h))) @ p["linear_2.weight"].T + p["linear_2.bias"]
    np.testing.assert_allclose(module(t).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_mlp_answers_in_the_dtype_of_the_model(dtype):
    assert TimeEmbedding(6, 10).to(dtype)(torch.tensor([3])).dtype == dtype


def test_an_odd_width_is_an_error():
    with pytest.raises(TypeCheckError):  # 4 numbers come out where 5 are promised
        TimeEmbedding(5, 10)(torch.tensor([3]))
