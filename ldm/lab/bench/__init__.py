r"""Speed and memory, each case measured in fresh processes.

`cases.py` says what is measured and how, `run.py` measures it and prints a table. The model has the sizes of Stable
Diffusion 1 and random weights, because the time of a matrix product does not depend on its numbers.
"""
