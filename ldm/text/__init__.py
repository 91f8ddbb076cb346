"""Text to token ids (pretokenize, bpe, tokenizer), ids to context (encoder), and a space shared with images (clip)."""
