r"""Stage 1: learn the tokenizer's merges from captions, and write the model's first files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldm.config import Config
from ldm.convert.folder import read_config, write_config
from ldm.postcards import caption, sample_scene
from ldm.text.bpe import learn_merges
from ldm.text.tokenizer import Tokenizer


def train_tokenizer(config: Config, folder: Path, captions: int = 40_000, seed: int = 0) -> Config:
    """Learn until every word of the captions is a piece of its own; returns the config with its true sizes.

    If `folder` has a config.json already, that one is used in place of `config`.

    A world of a few hundred words can afford that. CLIP's 49,408 pieces for all the texts of the internet
    cannot, and there rare words stay in several pieces.
    """
    # A later stage may have been here: keep what it wrote, such as the VAE's scale.
    if (folder / "config.json").exists():
        config = read_config(folder)
    texts = []
    for i in tqdm(range(captions), desc="tokenizer", unit="caption"):
        rng = np.random.default_rng([seed, i])
        texts.append(caption(sample_scene(rng), rng))
    tokenizer = Tokenizer(learn_merges(texts), context_length=config.text.context_length, pad=config.text.pad)
    config = replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size))
    tokenizer.save(folder / "tokenizer")
    write_config(folder, config)
    longest = max(len(tokenizer.encode(text)) for text in texts[:5000])
    print(
        f"tokenizer: {len(tokenizer.merges)} merges, {tokenizer.vocab_size} pieces; longest caption {longest}"
    )
    return config
