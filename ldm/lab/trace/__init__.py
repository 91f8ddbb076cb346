"""Look inside the model: every sampling step, the cross-attention to each word, and the shapes of all modules."""
