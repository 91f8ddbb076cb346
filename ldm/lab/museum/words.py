r"""What a mistake does, in words: for the command line and for the site's page."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ldm.lab.museum.files import description
from ldm.lab.museum.mistake import Mistake, Setting, changed_lines
from ldm.lab.museum.painting import PACKAGE, Exhibit
from ldm.lab.museum.scenes import SEED
from ldm.lab.museum.standins import STANDINS
from ldm.lab.museum.symptoms import SYMPTOMS

SHOWN = {
    "round trip": "a drawing, encoded and decoded by the VAE",
    "inpainting input": "what an inpainting U-Net reads beside the latent: the mask, the channels of the masked "
    "image's latent, and what those decode to",
    "tokens": "the tokens of a long prompt that are read",
    "similarity": "what CLIP says about a drawing",
}


def setting_words(setting: Setting) -> str:
    """How the images were made, as far as it is not the model's default: 'a dog with glasses', seed 42, ddim."""
    if setting.show != "image":
        words = [SHOWN[setting.show]]
    else:
        words = [f'the prompt "{setting.prompts[0]}"', f"seed {SEED}"]
        if len(setting.prompts) > 1:
            words.append("in a batch with a longer prompt")
    if setting.init:
        words.append("starting from a drawing")
    words += [control_words(options) for options in setting.control]
    for name, value in setting.options.items():
        if value is None:
            words.append(f"the default {'number of ' * (name == 'steps')}{name}")
        elif name == "steps":
            words.append(f"{value} steps" if isinstance(value, int) else f"the timesteps {value}")
        else:
            words.append(f"{name} {value}".replace("_", " ").replace("long prompt chunk", "read in chunks"))
    if setting.file != "ours":
        words.append(f"from {lower(description(setting.file))}")
    words += [f"{name} {value}" for name, value in setting.loading.items()]
    if setting.clean:
        words.append("with transformers' normalisation of texts")
    if setting.convert:
        words.append("converted" if setting.convert == "ours" else "exported")
    return ", ".join(words)


def control_words(options: Mapping[str, Any]) -> str:
    """One ControlNet of a setting: a ControlNet that reads the edges of a drawing, start 0.5."""
    what = {"canny": "the edges of a drawing", "tile": "a drawing"}[options["prepare"]]
    others = {name: value for name, value in options.items() if name not in ("prepare", "drawing")}
    more = ["in guess mode" if name == "guess" else f"{name} {value}" for name, value in others.items()]
    return ", ".join([f"a ControlNet that reads {what}", *more])


def lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def numbers_words(exhibit: Exhibit) -> Iterator[str]:
    """Where the two runs begin to differ, and by how much, in three sentences at most."""
    if exhibit.measures is None:
        for name, said in (("Right", exhibit.right), ("Wrong", exhibit.wrong)):
            if said:
                yield f"{name}: {textwrap.shorten(said, 300, placeholder=' ...')}"
        return
    if exhibit.beginning is None and not exhibit.measures.difference:
        yield "No layer's output differs here."
        return
    if exhibit.beginning is None:
        yield "At its first call, no layer's output differs by more than rounding."
    else:
        place, size = exhibit.beginning.place, off(exhibit.beginning.difference)
        yield (
            f"The difference begins with {place} ({size})."
            if " " in place
            else f"The first layer that differs is `{place}` ({size})."
        )
    if exhibit.prediction and math.isfinite(exhibit.prediction):
        yield f"The U-Net's first prediction is {off(exhibit.prediction)}."
    m = exhibit.measures
    yield f"The image differs by {m.difference:.3g} of 255 on average and by {m.largest:.0f} at most."


def off(difference: float) -> str:
    """A relative difference: "48 % off", "1.2 % off", "3e-05 off"."""
    if not math.isfinite(difference):
        return "it does not run, or its output has another shape"
    if difference > 10:
        return f"off by {difference:,.0f} times its size"
    if difference < 0.001:
        return f"{difference:.0e} off"
    return f"{100 * difference:.{1 if difference < 0.1 else 0}f} % off"


def difference_lines(mistake: Mistake) -> list[str]:
    source = (PACKAGE / mistake.file).read_text(encoding="utf-8")
    return changed_lines(source, mistake)


def standin_words(mistake: Mistake) -> str:
    """What is shown instead of the mistake itself, if that is in a preset; else nothing."""
    if not mistake.standin:
        return ""
    what = lower((STANDINS[mistake.standin].__doc__ or "").rstrip("."))
    return f"Shown on the tiny model instead: {what}."


def told(mistake: Mistake, exhibit: Exhibit, strip: Path | None = None) -> Iterator[str]:
    """An exhibit on the terminal, line by line."""
    yield f"{mistake.number}. {mistake.name} (ldm/{mistake.file})"
    yield from difference_lines(mistake)
    yield f"Shown with {setting_words(mistake.setting)}."
    if mistake.standin:
        yield standin_words(mistake)
    yield f"The images are {SYMPTOMS[exhibit.symptom]}."
    yield from (sentence.replace("`", "") for sentence in numbers_words(exhibit))
    yield from textwrap.wrap(mistake.why.replace("`", ""), 100)
    yield from (f"Seen elsewhere: {address}" for address, _ in mistake.seen)
