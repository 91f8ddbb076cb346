r"""Compare a model with published outputs: is it what it claims to be, and does it compute what it should?

The developers of diffusers ran Stable Diffusion and published a few numbers of its outputs. Here the same computations
are repeated and the results compared.
"""
