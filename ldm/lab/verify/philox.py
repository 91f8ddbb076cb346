r"""The noise of a CUDA device, computed on any machine: `torch.randn(shape, device="cuda")` for a given seed.

The published values start from noise that was drawn on a CUDA device, so repeating them needs that noise.

A sequential generator computes each number from the state left by the one before, which thousands of threads cannot
share. A GPU therefore uses a counter-based generator: number n is f(n), where f scrambles its input so thoroughly that
f(0), f(1), f(2), ... pass for random, and any thread can compute any number. (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3".)

Here f is Philox: a counter of four 32-bit words goes through ten rounds with a key of two words, the seed. Each thread
has its own counter, which includes the thread's index. From the four output words the thread makes four normal numbers.
If there are at least as many threads as numbers, each thread writes its first number and discards the other three:

    counter of number i   (0, 0, i, 0)     the number of draws by this thread (two words), its index (two words)
    key                   the seed, low word first

For more numbers, the order depends on how many threads the device runs at once, which would hold for one kind of device
only and is not supported. The layout is that of PyTorch up to 2.0, with which the values were measured.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt64

from ldm.errors import LdmError

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57  # found by search (Salmon et al. 2011, section 4.3)
# Added to the key each round: digits of the golden ratio and of the square root of three.
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
WORD = 0xFFFFFFFF

# Threads come in blocks of 256, and all but the smallest of these devices run at least 256 blocks at once.
ONE_PASS = 256 * 256


def philox(counter: UInt64[np.ndarray, "4 n"], key: tuple[int, int]) -> UInt64[np.ndarray, "4 n"]:
    r"""Philox4x32-10: maps four 32-bit words to four others, for n counters at once (each word in a 64-bit integer).

    A round multiplies two of the words to 64 bits each. The low halves become words themselves; the high halves are
    XORed into the other two words, together with the key.
    Source: Salmon et al. 2011, section 4.3.
    """
    a, b, c, d = counter
    low, high = key
    for _ in range(ROUNDS):
        first, second = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(low), second & np.uint64(WORD)
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(high), first & np.uint64(WORD)
        low, high = (low + KEY_STEPS[0]) & WORD, (high + KEY_STEPS[1]) & WORD
    return np.stack([a, b, c, d])


def box_muller(x: UInt64[np.ndarray, "n"], y: UInt64[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
    r"""Two 32-bit words to a standard normal number: $\sqrt{-2 \ln u}\, \sin v$ with u in (0, 1], v in (0, 2 pi].

    In float32, as on the device. (The cosine would give a second, independent number, which is not needed here.)
    Source: Box & Muller 1958.
    """
    unit, turn = np.float32(2**-32), np.float32(2**-32 * 2 * math.pi)
    u = x.astype(np.float32) * unit + unit / 2  # half a step, so that the logarithm is finite
    v = y.astype(np.float32) * turn + turn / 2
    return np.sqrt(np.float32(-2) * np.log(u)) * np.sin(v)


def cuda_noise(shape: Sequence[int], seed: int) -> Float32[np.ndarray, "..."]:
    r"""Standard normal noise as a generator with `seed` draws it on a CUDA device, up to rounding.

    Raises `LdmError` for more than 65,536 numbers, whose order depends on the device.
    """
    count = math.prod(shape)
    if count > ONE_PASS:
        raise LdmError(
            f"{count} numbers of CUDA noise; expected at most {ONE_PASS}, since the order of more depends on the device"
        )
    counter = np.zeros((4, count), np.uint64)
    counter[2] = np.arange(count)
    words = philox(counter, (seed & WORD, seed >> 32))
    return box_muller(words[0], words[1]).reshape(shape)
