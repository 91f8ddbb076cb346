r"""Tests of `ldm/bench`, and the arm of the benchmark that needs the reference libraries."""
