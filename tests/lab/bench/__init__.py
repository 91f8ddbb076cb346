r"""Tests of `ldm/lab/bench`, and the arm of the benchmark that needs the reference libraries."""
