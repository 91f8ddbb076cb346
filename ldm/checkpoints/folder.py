r"""This project's own layout of a model: a folder with one file for each part.

    config.json              every size (`ldm/config.py`)
    tokenizer/               merges and vocabulary, also readable by transformers' CLIPTokenizer
    text.safetensors         the text encoder
    text_2.safetensors       the second one, in Stable Diffusion XL
    clip.safetensors         the rest of CLIP: image encoder, projections, temperature (not needed to generate)
    vae.safetensors
    unet.safetensors

`ldm.checkpoints.collect` opens it like any other checkpoint; here are the pieces that training writes and reads.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.checkpoints.safetensors_file import map_tensors, write_safetensors
from ldm.config import Config, TextConfig
from ldm.errors import LdmError, some
from ldm.files.read_write import LARGEST_CONFIG, atomic_path, read_text
from ldm.text.clip import CLIP
from ldm.text.tokenizer import Tokenizer


def read_config(folder: Path) -> Config:
    """The sizes of the model in `folder`. Raises `LdmError` if there is none or it is damaged."""
    path = folder / "config.json"
    if not path.is_file():
        raise LdmError(
            f"{folder} has no config.json; expected a model folder: train one, starting with `ldm train tokenizer`, "
            "or give another"
        )
    return Config.from_json(read_text(path, LARGEST_CONFIG))


def write_config(folder: Path, config: Config) -> None:
    with atomic_path(folder / "config.json") as path:
        path.write_text(config.to_json(), encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype = torch.float16) -> None:
    """Write tensors to one safetensors file, as `dtype` (half precision makes no visible difference to an image)."""
    write_safetensors(path, tensors, dtype=dtype)


def read_tensors(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """All tensors of one safetensors file, as `dtype`. Raises `LdmError` if it is missing or damaged."""
    if not path.is_file():
        raise LdmError(f"{path} is missing; the model folder is incomplete, fetch or train it again")
    return {name: tensor.to(dtype) for name, tensor in map_tensors(path).items()}


def read_tokenizer(folder: Path, config: TextConfig) -> Tokenizer:
    """The model's tokenizer. Raises `LdmError` if its ids are not those that the text encoder was built for."""
    tokenizer = Tokenizer.load(folder / "tokenizer")
    got = (tokenizer.vocab_size, tokenizer.context_length, tokenizer.pad)
    expected = (config.vocab_size, config.context_length, config.pad)
    if got != expected:
        raise LdmError(
            f"{folder}: the tokenizer has (vocabulary, length, padding) {got}, config.json says {expected}; "
            "fetch both again, from one place"
        )
    return tokenizer


def fill(module: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Give a module its parameters. Raises `LdmError` that names what is missing, left over or misshapen."""
    own = dict(module.named_parameters())
    missing, left_over = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    wrong = [n for n in sorted(own.keys() & tensors.keys()) if own[n].shape != tensors[n].shape]
    troubles = {"lacks": missing, "has, but the model has not,": left_over, "has in another shape": wrong}
    found = [f"{what} {some(names)}" for what, names in troubles.items() if names]
    if found:
        raise LdmError(f"{source} {'; '.join(found)}. It must belong to config.json: fetch both again")
    # assign=True keeps the tensors themselves: nothing is allocated twice, and a meta module becomes real.
    module.load_state_dict(tensors, assign=True)


def write_clip(folder: Path, clip: CLIP) -> None:
    """CLIP as two files: the text encoder, which generating needs, and all the rest."""
    rest = {name: t for name, t in clip.state_dict().items() if not name.startswith("text.")}
    write_tensors(folder / "text.safetensors", clip.text.state_dict())
    write_tensors(folder / "clip.safetensors", rest)


def read_clip(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[CLIP, Tokenizer]:
    """Both halves of the model's CLIP, and the tokenizer that goes with it."""
    config = read_config(folder)
    if config.image is None or config.embedding_width is None:
        raise LdmError(f"{folder}: the model comes without CLIP's image encoder; generating does not need it")
    tokenizer = read_tokenizer(folder, config.text)
    with torch.device("meta"):  # no memory and no random numbers for weights that the files replace
        clip = CLIP(config.text, config.image, config.embedding_width)
    text = {f"text.{name}": t for name, t in read_tensors(folder / "text.safetensors", dtype).items()}
    fill(clip, text | read_tensors(folder / "clip.safetensors", dtype), folder / "clip.safetensors")
    return clip.eval(), tokenizer
