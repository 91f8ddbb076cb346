"""Seeing inside: what each step of sampling did, where each word looked, and the shapes on the way."""
