r"""A rehearsal with a file of Stable Diffusion 1.5's real size, but random numbers in it: `python -m tests.rehearsal`."""
