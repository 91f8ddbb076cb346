"""The denoiser: given a noisy latent, the noise level and the text, what is the noise?"""
