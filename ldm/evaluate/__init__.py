r"""Measuring what a model can do: whether it paints what it is asked, how sharply, how variedly, and what it understands.

Every chapter says how its figure can fool you.
"""
