r"""The usual mistakes of porting Stable Diffusion, made on purpose, to see that the tests notice."""
