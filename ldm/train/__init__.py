"""Training every part from nothing: tokenizer, CLIP, VAE, U-Net, in this order."""
