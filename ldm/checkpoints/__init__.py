"""Checkpoint files to and from the model: the same tensors under other names."""
