"""Diffusion: noise levels, schedules, predictions, and the samplers that remove the noise again."""
