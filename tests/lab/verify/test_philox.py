r"""The generator against its authors' published answers, and the noise against what cards have printed."""

import numpy as np
import pytest

from ldm.errors import LdmError
from ldm.lab.verify.philox import ONE_PASS, box_muller, cuda_noise, philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # three of the known answers that come with Random123, the authors' library
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_its_authors_answers(counter, key, expected):
    words, (low, high) = ([int(word, 16) for word in text.split()] for text in (counter, key))
    got = philox(np.array([words], np.uint64).T, (low, high))
    assert [f"{word:08x}" for word in got[:, 0]] == expected.split()


def test_a_counters_answer_does_not_depend_on_its_neighbours():
    counters = np.arange(40, dtype=np.uint64).reshape(4, 10)
    together = philox(counters, (1, 2))
    alone = [philox(counters[:, [i]], (1, 2))[:, 0] for i in range(10)]
    assert (np.array(alone) == together.T).all()


def test_box_muller_worked_by_hand():
    # u = 1/2 and v = a quarter turn: sqrt(2 ln 2) sin(pi / 2)
    got = box_muller(np.array([2**31], np.uint64), np.array([2**30], np.uint64))
    assert got.item() == pytest.approx((2 * np.log(2)) ** 0.5, rel=1e-6)


def test_box_muller_survives_the_extreme_words():
    extremes = np.array([0, 0xFFFFFFFF], np.uint64)
    assert np.isfinite(box_muller(extremes, extremes)).all()


@pytest.mark.parametrize(
    ("seed", "shape", "expected"),
    [  # printed by CUDA cards: torch.manual_seed(0) and torch.randn(..., device="cuda"), as in many a forum
        (0, (10,), [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631]),
        (13, (3, 4, 64, 64), [1.0607, 0.3815, 0.3934, 0.7325]),
    ],
)
def test_the_noise_begins_as_a_card_prints_it(seed, shape, expected):
    noise = cuda_noise(shape, seed)
    assert noise.shape == shape and noise.dtype == np.float32
    np.testing.assert_allclose(noise.ravel()[: len(expected)], expected, rtol=0, atol=6e-5)


def test_the_noise_is_normal_and_each_seed_has_its_own():
    a, b = cuda_noise((ONE_PASS,), 33), cuda_noise((ONE_PASS,), 2**40 + 33)
    for noise in (a, b):
        assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.02


def test_noise_whose_order_depends_on_the_device_is_refused():
    with pytest.raises(LdmError, match="65537 numbers.*at most 65536.*depends on the device"):
        cuda_noise((ONE_PASS + 1,), 0)
