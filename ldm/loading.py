r"""`ldm.load`: one door for a model, given its name or its folder."""

from pathlib import Path

import torch

from ldm.convert.folder import read_clip, read_model
from ldm.errors import LdmError
from ldm.pipeline import LatentDiffusion
from ldm.text.clip import CLIP
from ldm.text.tokenizer import Tokenizer

_PACKAGE = Path(__file__).parent


def find(model: str | Path) -> Path:
    """The folder of a model: a path to it, or a name under `weights/`.

    Names are looked for in ./weights, in the repository's weights/, and among the weights that the installed
    package carries. Raises `LdmError` that lists those places.
    """
    folder = Path(model)
    places = [folder]
    if len(folder.parts) == 1:  # a bare name
        places += [root / "weights" / folder for root in (Path.cwd(), _PACKAGE.parent, _PACKAGE)]
    for place in places:
        if (place / "config.json").is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise LdmError(
        f"no model {str(model)!r}: no config.json in any of {looked}; train one or give its folder"
    )


def pick_device() -> torch.device:
    """The fastest device at hand: a CUDA card, Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(
    model: str | Path = "tiny", dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> LatentDiffusion:
    """A model ready to paint, from a name under `weights/` or a folder; on the fastest device if not told.

    ldm.load("tiny").generate("a dog with glasses", seed=42)[0].show()
    """
    return read_model(find(model), dtype).to(device or pick_device())


def load_clip(
    model: str | Path = "tiny", dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> tuple[CLIP, Tokenizer]:
    """Both encoders of the model's CLIP, with their tokenizer: for similarity and zero-shot classification."""
    clip, tokenizer = read_clip(find(model), dtype)
    return clip.to(device or pick_device()), tokenizer
