r"""What every test shares. Nothing is seeded here: a test that draws numbers makes its own generator."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import torch

# Sums are split by thread: with one thread their last bits do not depend on the machine's cores.
torch.set_num_threads(1)
