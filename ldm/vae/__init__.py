"""The VAE: pixels to latents, many times smaller, and back."""
