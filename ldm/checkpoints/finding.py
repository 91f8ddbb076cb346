r"""A model by its name: where named models are, and which one is meant."""

from pathlib import Path

from ldm.checkpoints.locating import hub_cache, locate
from ldm.errors import LdmError
from ldm.files.leftovers import recover
from ldm.files.paths import expanded

_PACKAGE = Path(__file__).parents[1]


def find(model: str | Path) -> Path:
    """The folder or file of a model: a path to it, or a name under `weights/`.

    Names are looked up in ./weights, in the repository's weights/, and among the weights that the installed package
    carries; "organisation/name" also in the hub's cache on this machine. Nothing is downloaded. Raises `LdmError` that
    says what is there instead, or lists those places.
    """
    given = expanded(model)
    places = [given]
    if len(given.parts) == 1:  # a bare name
        places += [folder / given for folder in weights_folders()]
    elif len(given.parts) == 2 and not given.is_absolute():
        places.append(hub_cache() / f"models--{'--'.join(given.parts)}")
    reasons, absent = [], []
    for place in places:
        try:
            found = locate(place)
        except LdmError as error:
            reasons.append(str(error))
            continue
        if found is not None:
            return found
        absent.append(place)
    if any(recover(place) for place in absent):  # a writer was killed while it was replacing that folder
        return find(model)
    if "://" in str(model):
        raise LdmError(
            f"{str(model)!r} is a web address; nothing is downloaded here: fetch it and give its path"
        )
    if len(places) == 1:
        raise LdmError(
            reasons[0] if reasons else f"there is no model {given}; give a checkpoint's file or folder"
        )
    looked = ", ".join(str(place) for place in absent)
    if reasons:
        also = f" (nothing is in {looked})" if absent else ""
        raise LdmError(f"no model {str(model)!r}: {'; '.join(reasons)}{also}")
    raise LdmError(
        f"no model {str(model)!r}: none in {looked}; give a checkpoint's file or folder, or train one"
    )


def weights_folders() -> list[Path]:
    """Where named models are: here, in the repository, and in the installed package."""
    roots = dict.fromkeys((Path.cwd(), _PACKAGE.parent, _PACKAGE))  # the first two may be the same
    return [root / "weights" for root in roots]
