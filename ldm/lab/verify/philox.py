r"""The noise of a CUDA card, made on any computer: what `torch.randn(shape, device="cuda")` gives for a seed.

The published figures start from noise that was drawn on a card, so whoever wants to repeat them needs that noise.

An ordinary generator is a walk: each number comes from the state that the one before left behind. Thousands of threads
cannot share a walk. A card therefore uses a generator without a state: number n is f(n), and f is a scrambling so
thorough that f(0), f(1), f(2), ... pass for random. Any thread computes any number by itself. (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3".)

Here f is Philox: four words of 32 bits, the counter, go through ten rounds, stirred with a key of two words, the seed.
Each thread of the card counts for itself; its number is part of its counter. From the four words that come out the
thread makes four normal numbers. If there are at least as many threads as numbers wanted, each thread writes its first
one, and throws the other three away:

    counter of number i   (0, 0, i, 0)     how often this thread has drawn (two words), which thread it is (two words)
    key                   the seed, its low word first

For more numbers than that, it depends on how many threads the card runs at once. Left out on purpose: an answer would
only hold for one kind of card. The layout is that of PyTorch up to 2.0, with which the figures were measured.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt64

from ldm.errors import LdmError

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57  # found by search: they scramble well (Salmon et al. 2011, section 4.3)
KEY_STEPS = (
    0x9E3779B9,
    0xBB67AE85,
)  # the golden ratio's and the root of three's digits: added to the key each round
WORD = 0xFFFFFFFF

# Threads come in blocks of 256, and all but the smallest of the cards in question run 256 blocks at once, or more.
ONE_PASS = 256 * 256


def philox(counter: UInt64[np.ndarray, "4 n"], key: tuple[int, int]) -> UInt64[np.ndarray, "4 n"]:
    r"""Philox4x32-10: four words of 32 bits to four others, for n counters at once (each word in a 64-bit number).

    A round multiplies two of the words to 64 bits each. The low halves are kept, scrambled as they are; the high halves
    go into the other two words, together with the key. Every word has then met every other one after two rounds.
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
    r"""Two words of 32 bits to a standard normal number: $\sqrt{-2 \ln u}\, \sin v$ with u in (0, 1], v in (0, 2 pi].

    In float32, as on the card. (The cosine gives a second number, independent of the first; here nobody asks for it.)
    Source: Box & Muller 1958.
    """
    unit, turn = np.float32(2**-32), np.float32(2**-32 * 2 * math.pi)
    u = x.astype(np.float32) * unit + unit / 2  # half a step, so that the logarithm never meets a zero
    v = y.astype(np.float32) * turn + turn / 2
    return np.sqrt(np.float32(-2) * np.log(u)) * np.sin(v)


def cuda_noise(shape: Sequence[int], seed: int) -> Float32[np.ndarray, "..."]:
    r"""Standard normal noise, as a generator with `seed` draws it on a CUDA card; equal but for the last bits.

    Raises `LdmError` for more than 65,536 numbers, whose order depends on the card.
    """
    count = math.prod(shape)
    if count > ONE_PASS:
        raise LdmError(
            f"{count} numbers of a CUDA card's noise; expected at most {ONE_PASS}: beyond, it depends on the card"
        )
    counter = np.zeros((4, count), np.uint64)
    counter[2] = np.arange(count)
    words = philox(counter, (seed & WORD, seed >> 32))
    return box_muller(words[0], words[1]).reshape(shape)
