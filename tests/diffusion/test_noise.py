r"""Noise that depends on its seed and on nothing else."""

import pytest
import torch

from ldm.diffusion.noise import noise_source, pick_seed
from ldm.errors import LdmError

SHAPE = (4, 3, 5)


def draws(seeds, count=2, dtype=torch.float32):
    source = noise_source(seeds, SHAPE, dtype, "cpu")
    return [source() for _ in range(count)]


def test_the_noise_of_a_seed_is_what_torchs_generator_draws_from_it():
    generator = torch.Generator().manual_seed(42)
    first, second = draws([42])
    assert torch.equal(first[0], torch.randn(SHAPE, generator=generator))
    assert torch.equal(second[0], torch.randn(SHAPE, generator=generator))


def test_the_first_numbers_of_seed_0_are_the_published_ones():
    # Anyone's torch, on any machine: torch.manual_seed(0); torch.randn(...) begins so.
    first = noise_source([0], (4, 64, 64), torch.float32, "cpu")().flatten()[:4]
    torch.testing.assert_close(first, torch.tensor([-1.1258, -1.1524, -0.2506, -0.4339]), rtol=0, atol=5e-5)


def test_a_picture_has_the_same_noise_alone_and_in_any_batch():
    for alone, pair, three in zip(draws([8]), draws([7, 8]), draws([9, 8, 7])):
        assert torch.equal(alone[0], pair[1]) and torch.equal(alone[0], three[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_same_seed_is_the_same_noise_in_every_dtype(dtype):
    # Drawn in float32, then cast: drawing in float64 would give other numbers altogether.
    for wanted, single in zip(draws([8], dtype=dtype), draws([8])):
        assert wanted.dtype == dtype and torch.equal(wanted, single.to(dtype))


def test_every_call_and_every_seed_gives_new_numbers():
    first, second = draws([7, 8])
    values = [first[0], first[1], second[0], second[1]]
    assert not any(torch.allclose(a, b) for i, a in enumerate(values) for b in values[:i])


def test_the_global_generator_is_neither_read_nor_moved():
    state = torch.get_rng_state()
    noise = draws([7])
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(draws([7])[0], noise[0])
    torch.set_rng_state(state)


def test_the_noise_is_standard_normal():
    noise = noise_source([1], (100, 100, 10), torch.float32, "cpu")()
    assert abs(noise.mean().item()) < 0.01 and abs(noise.std().item() - 1) < 0.01
    assert abs((noise**4).mean().item() - 3) < 0.1


def test_the_largest_seed_has_noise_of_its_own():
    first, second = draws([2**32 - 1, 0], count=1)[0]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("seed", [2**32, 2**32 + 5, 2**64 + 5, -5])
def test_a_seed_that_torch_would_fold_into_another_is_an_error(seed):
    with pytest.raises(LdmError, match=rf"seed {seed}; expected a whole number from 0 to 2\*\*32 - 1"):
        noise_source([7, seed], SHAPE, torch.float32, "cpu")


def test_a_batch_may_end_at_the_largest_seed_and_not_run_beyond():
    assert pick_seed(2**32 - 4, 4) == 2**32 - 4
    with pytest.raises(LdmError, match="seed 4294967292 and the 4 after it; the largest is"):
        pick_seed(2**32 - 4, 5)
    with pytest.raises(LdmError, match="seed 4294967296; expected"):
        pick_seed(2**32)


def test_no_seed_and_minus_one_draw_another_each_time():
    drawn = {pick_seed(seed, 8) for seed in (None, -1) for _ in range(8)}
    assert len(drawn) > 8 and all(0 <= seed < 2**32 - 8 for seed in drawn)
