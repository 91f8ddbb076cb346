r"""Postcards: the synthetic captioned images that the tiny model is trained on.

A `Scene` says what a postcard shows. Reading order: `scene` (what there is), `facts` (what is true of a scene),
`sampling` (a random scene), `draw` (rendering it), `plan`, `sentences` and the two grammars (describing it), `captions`
(as people type it), `altered` (captions that are nearly right), `prompts` (written by hand), `series` (an endless
numbered series), `sheet` (image grids). Needs numpy and Pillow only.
"""

from ldm.postcards.altered import altered, wrong_caption
from ldm.postcards.canvas import Box
from ldm.postcards.captions import (
    DEMO_PROMPTS,
    LANGUAGES,
    Caption,
    caption,
    caption_with_facts,
    mistyped_caption,
    names,
    vocabulary,
    withheld_caption,
)
from ldm.postcards.draw import FLAWS, draw, draw_with_boxes
from ldm.postcards.facts import QUESTIONS, facts, labels, topic
from ldm.postcards.prompts import handwritten
from ldm.postcards.sampling import arranged, held_out, sample_scene
from ldm.postcards.scene import SUBJECTS, Animal, Garment, Scene, Thing
from ldm.postcards.series import Postcard, export, postcard
from ldm.postcards.sheet import contact_sheet, grid

__all__ = [
    "DEMO_PROMPTS",
    "FLAWS",
    "LANGUAGES",
    "QUESTIONS",
    "SUBJECTS",
    "Animal",
    "Box",
    "Caption",
    "Garment",
    "Postcard",
    "Scene",
    "Thing",
    "altered",
    "arranged",
    "caption",
    "caption_with_facts",
    "contact_sheet",
    "draw",
    "draw_with_boxes",
    "export",
    "facts",
    "grid",
    "handwritten",
    "held_out",
    "labels",
    "mistyped_caption",
    "names",
    "postcard",
    "sample_scene",
    "topic",
    "vocabulary",
    "withheld_caption",
    "wrong_caption",
]
