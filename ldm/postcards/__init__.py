r"""Postcards: the synthetic captioned images that the tiny model is trained on.

Reading order: `attributes` (what a scene consists of), `captions` (describing it in English or French), `draw`
(rendering it), `sheet` (image grids), `series` (an endless numbered series). Needs numpy and Pillow only.
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
