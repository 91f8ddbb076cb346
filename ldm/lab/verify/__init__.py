r"""Is it the model that it claims to be, and does it compute what it should?

Others have run Stable Diffusion and published a few of the numbers that came out. Here they are run again: what comes
out now is held beside what came out then.
"""
