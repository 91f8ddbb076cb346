"""What the U-Net, the VAE and CLIP are built from."""
