"""The samplers: each file holds one update, and `table.py` lists them all."""

from ldm.diffusion.samplers.table import ALIASES, SAMPLERS, Sampler, find_sampler, find_spacing

__all__ = ["ALIASES", "SAMPLERS", "Sampler", "find_sampler", "find_spacing"]
