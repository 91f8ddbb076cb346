r"""The table and the drawing say what the networks do."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest
import torch

from ldm.config import SD1_INPAINT, SD2_V
from ldm.images.lettering import font
from ldm.lab.trace.shapes import WIDTH, shapes_svg, shapes_table
from ldm.pipeline import LatentDiffusion
from tests.small import CONFIG, TOKENIZER

SVG = "{http://www.w3.org/2000/svg}"


def meta(config):
    with torch.device("meta"):
        return LatentDiffusion(config, TOKENIZER)


def texts(drawing):
    return ["".join(node.itertext()) for node in ET.fromstring(drawing).iter(f"{SVG}text")]


def test_a_line_of_the_table_is_a_module_with_its_shapes_and_size(model):
    lines = [re.split(r"  +", line) for line in shapes_table(model).splitlines()]
    # 3 x 3 x 4 x 8 weights and 8 biases.
    assert ["conv_in", "4 x 8 x 8", "8 x 8 x 8", "296"] in lines
    assert ["mid.attn", "16 x 4 x 4, 32 x 16", "16 x 4 x 4", f"{count(model.unet.mid.attn):,}"] in lines
    totals = [line[-1] for line in lines if line[0] == "in all"]
    assert totals == [f"{count(x):,}" for x in (model.unet, model.vae.encoder, model.vae.decoder)]


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_the_tables_columns_are_aligned(model):
    for block in shapes_table(model).split("\n\n\n")[1:]:
        lines = [line for line in block.splitlines() if re.search(r" x .* x .*\d$", line)]
        assert lines and len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("config", [CONFIG, SD1_INPAINT, SD2_V], ids=lambda config: config.name)
def test_the_drawing_is_whole_and_within_its_frame(config):
    drawing = shapes_svg(meta(config))
    root = ET.fromstring(drawing)
    width, height = (int(root.get(name)) for name in ("width", "height"))
    assert root.get("viewBox") == f"0 0 {width} {height}" and width == WIDTH
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (int(box.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height and min(w, h) > 0
    for node in root.iter(f"{SVG}text"):
        long = font(19 if node.get("class") == "title" else 12).getlength(
            node.text
        )  # a wide font, as fonts go
        before = {"start": 0, "middle": 0.5, "end": 1}[node.get("text-anchor")] * long
        assert 0 <= int(node.get("x")) - before <= width - long and 0 < int(node.get("y")) < height
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")


def test_every_level_is_drawn_with_what_goes_in_and_out():
    drawn = texts(shapes_svg(meta(CONFIG)))
    for name in ("down.0", "down.1", "mid", "up.0", "up.1", "pixels", "latent"):
        assert name in drawn
    assert "8 × 8 × 8 → 8 × 4 × 4" in drawn  # down.0, from 8 x 8 to 4 x 4
    assert "8 × 4 × 4 → 16 × 4 × 4" in drawn and "16 × 4 × 4 → 16 × 8 × 8" in drawn  # down.1, up.0
    assert drawn.count("2 skips") == 2 and "16 + 8 channels" in drawn and "8 + 8 channels" in drawn
    assert "1 residual block" in drawn and "2 residual blocks, 2 transformers" in drawn


def test_taller_features_have_taller_boxes():
    boxes = ET.fromstring(shapes_svg(meta(CONFIG))).findall(f"{SVG}rect[@class='down']")
    first, second = (int(box.get("height")) for box in boxes[:2])
    assert (first, second) == (120, 60)


def test_the_drawing_follows_light_and_dark():
    drawing = shapes_svg(meta(CONFIG))
    assert "prefers-color-scheme: dark" in drawing and drawing.count("--paper:") == 2


@pytest.mark.long
def test_what_comes_out_is_what_the_model_predicts():
    assert any(text.startswith("v, 4 ×") for text in texts(shapes_svg(meta(SD2_V))))
    assert any(text.startswith("the noise, 4 ×") for text in texts(shapes_svg(meta(SD1_INPAINT))))
    assert any(text.startswith("noisy latent, 9 ×") for text in texts(shapes_svg(meta(SD1_INPAINT))))


def test_a_name_cannot_break_the_drawing():
    odd = dataclasses.replace(CONFIG, name="<b> & co")
    assert "The U-Net of <b> & co" in texts(shapes_svg(meta(odd)))
