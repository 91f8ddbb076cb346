"""Adapters: small files that change a trained model."""
