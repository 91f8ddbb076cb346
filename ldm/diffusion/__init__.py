"""Noise added step by step, and taken away again: schedules, predictions, samplers."""
