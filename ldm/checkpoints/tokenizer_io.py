r"""The tokenizer of a checkpoint: from the folder beside its weights, from its own metadata, or CLIP's."""

import json
from dataclasses import replace

from ldm.checkpoints.checkpoint import Checkpoint
from ldm.checkpoints.opening import CONFIG, TOKENIZER, is_own_folder
from ldm.config import Config
from ldm.errors import LdmError
from ldm.files.read_write import parse_json
from ldm.notes import log
from ldm.text.tokenizer import Tokenizer


def tokenizer_text(tokenizer: Tokenizer) -> str:
    """A whole tokenizer as JSON; short enough for the metadata of a file of weights."""
    options = {"context_length": tokenizer.context_length, "pad": tokenizer.pad, "clean": tokenizer.clean}
    return json.dumps({"merges": tokenizer.merges, **options}, ensure_ascii=False)


def tokenizer_from_text(text: str) -> Tokenizer:
    """Read what `tokenizer_text` wrote. Raises `LdmError` if it is something else."""
    try:
        fields = parse_json(text, "the tokenizer in the file's metadata")
        merges = [(left, right) for left, right in fields.pop("merges")]
        if not all(isinstance(token, str) for pair in merges for token in pair):
            raise TypeError("a merge is not a pair of texts")
        return Tokenizer(merges, **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LdmError(f"the tokenizer in the file's metadata is damaged ({str(error)[:100]})") from error


def with_tokenizer(checkpoint: Checkpoint, config: Config) -> tuple[Config, Tokenizer]:
    """The checkpoint's tokenizer, and the config with its padding. Raises `LdmError` if its ids are not the model's."""
    path, folder = checkpoint.path, checkpoint.path / "tokenizer"
    second = checkpoint.path / "tokenizer_2"
    if not folder.is_dir() and second.is_dir():  # the refiner of Stable Diffusion XL
        folder = second
    if folder.is_dir() or is_own_folder(path):
        tokenizer = Tokenizer.load(folder)
    elif TOKENIZER in checkpoint.metadata:
        tokenizer = tokenizer_from_text(checkpoint.metadata[TOKENIZER])
    else:
        tokenizer = Tokenizer.clip(pad=config.text.pad)
        if path.is_dir():
            log.info(f"{path} has no tokenizer/; taking CLIP's own, as its kind was trained with")
    expected = (config.text.vocab_size, config.text.context_length)
    if (tokenizer.vocab_size, tokenizer.context_length) != expected:
        raise LdmError(
            f"{path}: the text encoder has (vocabulary, length) {expected}, the tokenizer "
            f"{(tokenizer.vocab_size, tokenizer.context_length)}; give a folder with the model's own tokenizer/ in it"
        )
    if tokenizer.pad != config.text.pad:
        if CONFIG in checkpoint.metadata:  # both are ours, and one of them is wrong
            raise LdmError(
                f"{path}: its config says that prompts are padded with {config.text.pad!r}, its tokenizer "
                f"{tokenizer.pad!r}; fetch both again, from one place"
            )
        log.info(
            f"{path}: its tokenizer pads prompts with {tokenizer.pad!r}, where models of its kind were trained with "
            f"{config.text.pad!r}; taking the tokenizer's"
        )
    config = replace(config, text=replace(config.text, pad=tokenizer.pad))
    if config.text_2 is None:
        return config, tokenizer
    if (config.text_2.vocab_size, config.text_2.context_length) != expected:
        raise LdmError(
            f"{path}: its text encoders have (vocabulary, length) {expected} and "
            f"{(config.text_2.vocab_size, config.text_2.context_length)}; expected the same"
        )
    if second.is_dir():
        other = Tokenizer.load(second)
        if other.merges != tokenizer.merges:
            raise LdmError(f"{path}: its two tokenizers have different vocabularies; expected the same")
        config = replace(config, text_2=replace(config.text_2, pad=other.pad))
    return config, tokenizer
