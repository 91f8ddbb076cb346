"""Between pixels and latents: a picture made some fifty times smaller, and back."""
