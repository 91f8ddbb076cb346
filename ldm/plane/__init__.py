"""Diffusion in two dimensions, where everything can be seen and the right answer is known.

The samplers, the loop and guidance are those of the real model. Only the network is another one: `mixture.py` has the
exact answer in its place, and `field.py` a small network that learns it in seconds.
"""
