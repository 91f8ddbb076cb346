"""Text to ids (tokenizer, bpe), ids to context (encoder), and the space text shares with images (clip)."""
