r"""Mutated files of every kind that we read: each must end in our own error or in a right result, soon.

`python -m tests.fuzz` runs a given number of them and writes a table; `tests.fuzz.guided` hands the same readers to
atheris, which chooses its mutations by the branches that they reach.
"""
