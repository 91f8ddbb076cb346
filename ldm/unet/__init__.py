"""The denoiser: given a noisy latent, its noise level and the text, it predicts the noise."""
