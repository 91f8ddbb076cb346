r"""Postcards: a small captioned world, drawn here, on which the tiny model is trained.

Reading order: `attributes` (what there is), `captions` (saying it, in English and in French), `draw` (painting it),
`sheet` (many at once), `series` (numbered postcards without end). Needs numpy and Pillow only.
"""

from ldm.postcards.attributes import SCENES, SUBJECTS, Landscape, Portrait, Scene, held_out, sample_scene
from ldm.postcards.captions import DEMO_PROMPTS, caption, withheld_caption
from ldm.postcards.draw import draw
from ldm.postcards.series import Postcard, export, postcard
from ldm.postcards.sheet import contact_sheet, grid

__all__ = [
    "DEMO_PROMPTS",
    "SCENES",
    "SUBJECTS",
    "Landscape",
    "Portrait",
    "Postcard",
    "Scene",
    "caption",
    "contact_sheet",
    "draw",
    "export",
    "grid",
    "held_out",
    "postcard",
    "sample_scene",
    "withheld_caption",
]
