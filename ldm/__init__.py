"""Latent diffusion you can read.

    import ldm
    model = ldm.load("tiny")
    model.generate("a dog with glasses", seed=42)[0].save("dog.png")

The package reads in the order in which an image is made; `ldm/chapters.py` is its table of contents.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm.diffusion.conditioning import Conditioning
    from ldm.loading import load, load_clip
    from ldm.pipeline import LatentDiffusion

__version__ = "0.1.0"
__all__ = ["Conditioning", "LatentDiffusion", "load", "load_clip"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import ldm` and `ldm --help` do not wait for torch."""
    if name == "Conditioning":
        from ldm.diffusion.conditioning import Conditioning

        return Conditioning
    if name == "LatentDiffusion":
        from ldm.pipeline import LatentDiffusion

        return LatentDiffusion
    if name in ("load", "load_clip"):
        from ldm import loading  # not ldm/load.py: a module of that name would take the function's place here

        return getattr(loading, name)
    raise AttributeError(f"module 'ldm' has no attribute {name!r}")
