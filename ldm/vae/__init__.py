"""Between pixels and latents: a picture made many times smaller, and back."""
