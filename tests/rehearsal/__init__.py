r"""A rehearsal with a checkpoint of Stable Diffusion 1.5's size and random numbers: `python -m tests.rehearsal`."""
