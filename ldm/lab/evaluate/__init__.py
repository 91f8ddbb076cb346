r"""Evaluate a model: prompt adherence, what its options do, where words are read, sharpness, diversity, understanding.

Every module says how its metric can mislead you.
"""
