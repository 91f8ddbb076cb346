r"""Evaluate a model: prompt adherence, sharpness, diversity, and what it understands.

Every module says how its metric can mislead you.
"""
