r"""Stage 1: learn the tokenizer's merges from captions and write the model's first files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldm.checkpoints.folder import read_config, write_config
from ldm.config import Config
from ldm.postcards import caption, sample_scene
from ldm.text.fast_bpe import learn_merges_fast
from ldm.text.tokenizer import Tokenizer


def postcard_captions(count: int, seed: int = 0) -> list[str]:
    """One caption for each of `count` random scenes, without typing mistakes: a misspelled word is cut into pieces."""
    texts = []
    for i in tqdm(range(count), desc="tokenizer", unit="caption"):
        rng = np.random.default_rng([seed, i])
        texts.append(caption(sample_scene(rng), rng, mistakes=False))
    return texts


def train_tokenizer(config: Config, folder: Path, texts: Sequence[str]) -> Config:
    """Learn merges until every word that occurs at least twice is a single token.

    Returns the config with the vocabulary size. If `folder` already has a config.json, it replaces `config`.

    A corpus of a few hundred words allows this. CLIP's 49,408 tokens are too few for the text of the internet, so rare
    words are split.
    """
    # Keep what later stages may have written to it, such as the VAE's scale.
    if (folder / "config.json").exists():
        config = read_config(folder)
    merges = learn_merges_fast(texts)
    tokenizer = Tokenizer(merges, context_length=config.text.context_length, pad=config.text.pad)
    config = replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size))
    tokenizer.save(folder / "tokenizer")
    write_config(folder, config)
    lengths = [len(tokenizer.encode(text)) for text in texts[:5000]]
    available = tokenizer.context_length - 2  # the start and the end token take two positions
    print(
        f"tokenizer: {len(tokenizer.merges)} merges, {tokenizer.vocab_size} tokens; longest caption {max(lengths)}"
    )
    if max(lengths) > available:
        truncated = sum(length > available for length in lengths)
        print(
            f"tokenizer: {truncated} of {len(lengths)} captions are longer than {available} tokens and are truncated"
        )
    return config
