"""Training every part from scratch: tokenizer, CLIP, VAE, U-Net, in this order."""
