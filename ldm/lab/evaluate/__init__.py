r"""Measuring a model: whether it paints what it is asked, how sharply, how variedly, and what it understands.

Every chapter says how its figure can fool you.
"""
