r"""Your own images: what is read, what is reported, and that the stages train on them."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.cli import main
from ldm.errors import LdmError
from ldm.postcards import postcard
from ldm.train import stages
from ldm.train.loop import Recipe
from ldm.train.own import read_image_folder
from ldm.train.stages import STAGES, Preset
from tests.small import CONFIG


def save(path, size=(20, 16), colour=(200, 30, 60), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)


def metadata(folder, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_captions_come_from_metadata_or_from_a_text_beside(tmp_path, capsys):
    for name in ("b.png", "a.jpg", "deep/c.webp", "d.PNG"):
        save(tmp_path / name)
    metadata(
        tmp_path, {"file_name": "deep/c.webp", "text": "été"}, {"file_name": "./a.jpg", "text": "of the file"}
    )
    (tmp_path / "a.txt").write_text("beside")  # metadata.jsonl comes first
    (tmp_path / "b.txt").write_text(" two\n")
    (tmp_path / "d.txt").write_text("four")
    seen, held_out = read_image_folder(tmp_path, 16)
    assert list(seen.scenes) == ["of the file", "two", "four"] and list(held_out.scenes) == ["été"]
    assert seen.captions(np.array([1, 1, 0]), np.random.default_rng(0)) == ["two", "two", "of the file"]
    assert capsys.readouterr().out == f"{tmp_path}: 4 usable images\n"


def test_every_tenth_is_held_out_by_order_of_name_and_at_least_one(tmp_path):
    for i in reversed(range(21)):
        save(tmp_path / f"{i:02d}.png", colour=(i, i, i))
        (tmp_path / f"{i:02d}.txt").write_text(str(i))
        if i in (19, 12, 0):
            seen, held_out = read_image_folder(tmp_path, 16) if i < 19 else (None, None)
            if i == 12:  # 12 to 20: nine
                assert list(held_out.scenes) == ["20"] and len(seen) == 8
    assert list(held_out.scenes) == ["9", "19"]
    assert list(seen.scenes) == [str(i) for i in range(21) if i not in (9, 19)]
    assert (held_out.pixels[1] == 19).all() and held_out.pixels.shape == (2, 16, 16, 3)


def test_a_image_is_cropped_to_its_central_square_and_resized(tmp_path):
    r"""60 x 20: thirds in red, green and blue. The central square contains only the green third."""
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    for i in range(3):
        wide[:, 20 * i : 20 * i + 20, i] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2).copy()).save(tmp_path / "tall.png")
    for name in ("wide", "tall"):
        (tmp_path / f"{name}.txt").write_text(name)
    for images in read_image_folder(tmp_path, 10):
        inner = images.pixels[0, 3:-3, 3:-3].astype(int)  # the filter rings a little at the edges
        assert images.pixels.shape == (1, 10, 10, 3) and np.abs(inner - (0, 255, 0)).max() < 4


def test_any_mode_is_rgb_and_a_camera_held_sideways_is_turned(tmp_path):
    for mode in ("L", "P", "RGBA", "1"):
        save(tmp_path / f"{mode}.png", colour="white", mode=mode)
    save(tmp_path / "cmyk.jpg", colour="white", mode="CMYK")
    left_half_black = np.full((16, 16, 3), 255, dtype=np.uint8)
    left_half_black[:, :8] = 0
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: the left side comes to the top
    Image.fromarray(left_half_black).save(tmp_path / "z.png", exif=exif)
    for path in tmp_path.glob("*.*"):
        path.with_suffix(".txt").write_text(path.stem)
    seen, held_out = read_image_folder(tmp_path, 16)
    assert (seen.pixels == 255).all() and held_out.scenes == ["z"]
    assert (held_out.pixels[0, :6] == 0).all() and (held_out.pixels[0, -6:] == 255).all()


def test_what_is_unusable_is_counted_by_reason_and_named(tmp_path, capsys):
    for i in range(6):
        save(tmp_path / f"good{i}.png")
    for name in ("x1.png", "x2.png", "x3.png", "x4.png", "empty.png"):
        save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    cut = (tmp_path / "good0.png").read_bytes()[:60]
    (tmp_path / "cut.png").write_bytes(cut)
    (tmp_path / "notes.md").write_text("neither image nor caption")
    good = [{"file_name": f"good{i}.png", "text": f"number {i}"} for i in range(6)]
    others = [
        {"file_name": name, "text": name} for name in ("broken.jpg", "cut.png", "gone.png", "../up.png")
    ]
    bad = [
        "{not json",
        '{"file_name": "x1.png"}',
        '["x2.png", "text"]',
        '{"file_name": 3, "text": "x"}',
        "",
        "7",
    ]
    metadata(tmp_path, *good, *others, {"file_name": "empty.png", "text": "  "}, *bad)
    seen, held_out = read_image_folder(tmp_path, 16)
    assert len(seen) == 5 and list(held_out.scenes) == ["number 5"]
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: 6 usable images",
        "  5 unusable: a line of metadata.jsonl without file_name and text in UTF-8 (line 12, line 13, line 14, ...)",
        "  1 unusable: an empty caption (empty.png)",
        "  2 unusable: an image that cannot be read (broken.jpg, cut.png)",
        "  2 unusable: named in metadata.jsonl, but no image in the folder (../up.png, gone.png)",
        "  4 unusable: no caption (x1.png, x2.png, x3.png, ...)",
    ]


def captions_of(folder) -> list[str]:
    return [text for images in read_image_folder(folder, 16) for text in images.scenes]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
@pytest.mark.parametrize("where", ["beside", "metadata"])
def test_a_caption_is_read_right_in_its_encoding_or_reported(tmp_path, capsys, encoding, where):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    text = "un ch\u00e2teau"
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("plain")
    save(tmp_path / "c.png")
    if where == "beside":
        (tmp_path / "c.txt").write_bytes(mark + text.encode(encoding))
    else:
        row = json.dumps({"file_name": "c.png", "text": text}, ensure_ascii=False)
        (tmp_path / "metadata.jsonl").write_bytes(mark + f"{row}\n".encode(encoding))
    read = captions_of(tmp_path)
    if encoding == "latin-1":  # nothing tells it apart from a dozen similar encodings
        reason = {
            "beside": "a caption that cannot be read; save it as text in UTF-8 (c.png)",
            "metadata": "a line of metadata.jsonl without file_name and text in UTF-8 (line 1)",
        }
        assert read == ["plain", "plain"] and f"  1 unusable: {reason[where]}" in capsys.readouterr().out
    else:
        assert sorted(read) == ["plain", "plain", text]


@pytest.mark.parametrize("content", ["a cat".encode("utf-16-le"), b"\xff\xfea", b"x" * (2**20 + 1)],
                         ids=["no mark", "cut off", "too long"])  # fmt: skip
def test_what_is_no_caption_is_reported(tmp_path, capsys, content):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(b"plain" if name != "c" else content)
    assert captions_of(tmp_path) == ["plain", "plain"]
    assert "a caption that cannot be read; save it as text in UTF-8 (c.png)" in capsys.readouterr().out


def test_metadata_in_no_encoding_is_one_clear_line(tmp_path):
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LdmError, match="metadata.jsonl is not valid UTF-16"):
        read_image_folder(tmp_path, 16)


def test_a_line_separator_within_a_caption_ends_no_line_of_metadata(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png")
    rows = [
        json.dumps({"file_name": f"{n}.png", "text": f"{n}\u2028x\x85y"}, ensure_ascii=False) for n in "ab"
    ]
    metadata(tmp_path, *rows)
    assert sorted(captions_of(tmp_path)) == ["a\u2028x\x85y", "b\u2028x\x85y"]


def test_images_are_read_as_init_is(tmp_path, capsys):
    r"""16 bits keep their greys (cut off at 255, all would be white), and what is transparent is white."""
    ramp = np.tile(np.linspace(0, 65535, 16).round().astype(np.uint16), (16, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    clear = np.zeros((16, 16, 4), dtype=np.uint8)  # black, and its left half transparent
    clear[:, 8:, 3] = 255
    Image.fromarray(clear, "RGBA").save(tmp_path / "b.png")
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    for name in ("a", "b", "eps"):
        (tmp_path / f"{name}.txt").write_text(name)
    (grey,), (flat,) = (images.pixels for images in read_image_folder(tmp_path, 16))
    assert np.abs(grey[0, :, 0].astype(int) - np.linspace(0, 255, 16)).max() <= 1
    assert (flat[:, :8] == 255).all() and (flat[:, 8:] == 0).all()
    assert "1 unusable: an image that cannot be read (eps.png)" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_images_or_captions_is_not_waited_for(tmp_path, capsys):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pipe.txt").write_text("pipe")
    (tmp_path / "c.txt").unlink()
    os.mkfifo(tmp_path / "c.txt")
    assert captions_of(tmp_path) == ["a", "b"]


def test_names_in_the_report_drive_no_terminal(tmp_path, capsys):
    for name in ("a", "b", "\x1b[31mc"):
        save(tmp_path / f"{name}.png")
        if name in "ab":
            (tmp_path / f"{name}.txt").write_text(name)
    read_image_folder(tmp_path, 16)
    assert r"no caption (\x1b[31mc.png)" in capsys.readouterr().out


def test_too_few_images_are_an_error_that_says_what_is_expected(tmp_path):
    with pytest.raises(LdmError, match="no folder .+nowhere"):
        read_image_folder(tmp_path / "nowhere", 16)
    save(tmp_path / "one.png")
    (tmp_path / "one.txt").write_text("alone")
    with pytest.raises(
        LdmError, match=r"has 1 usable images; expected at least 2, .+ metadata.jsonl or a .txt"
    ):
        read_image_folder(tmp_path, 16)


def test_other_pixels_or_other_captions_are_another_identity(tmp_path):
    identities = []
    for colour, text in (("red", "one"), ("red", "one"), ("blue", "one"), ("red", "two")):
        for name in ("a", "b"):
            save(tmp_path / f"{name}.png", colour=colour)
            (tmp_path / f"{name}.txt").write_text(text)
        identities.append(read_image_folder(tmp_path, 16)[0].identity)
    assert identities[0] == identities[1] and len(set(identities)) == 3


@pytest.mark.long
def test_all_stages_train_on_exported_postcards(tmp_path, monkeypatch, capsys):
    recipes = {name: Recipe(2, 16, 1e-3, warmup=1) for name in STAGES[1:]}  # batches larger than the folder
    monkeypatch.setattr(stages, "PRESETS", {"quick": Preset(CONFIG, 20_000, 2_000, recipes)})
    cards, model = tmp_path / "cards", tmp_path / "model"
    assert main(["postcards", "--folder", str(cards), "--count", "12", "--size", "24"]) == 0
    (cards / "00003.png").write_bytes(b"damaged")
    train = ["train", "all", "--data", str(cards), "--out", str(model), "--preset", "quick"]
    assert main(train) == 0
    out = capsys.readouterr().out
    assert f"{cards}: 11 usable images" in out and "an image that cannot be read (00003.png)" in out
    assert "retrieval among 1, held-out combinations: 1" in out
    assert {p.name for p in model.glob("*.safetensors")} == {
        f"{n}.safetensors" for n in ("text", "clip", "vae", "unet")
    }
    # The tokenizer knows the words of these captions.
    words = postcard(0, size=24).caption.lower().split()
    pieces = json.loads((model / "tokenizer/vocab.json").read_text(encoding="utf-8"))
    assert any(f"{word}</w>" in pieces for word in words)
    # The samples come from the held-out captions: one row of four.
    with Image.open(model / "runs/diffusion/samples-000002.png") as image:
        assert image.size == (4 * (16 + 4) + 4, 16 + 4 + 4)
    # Another folder is another run.
    (cards / "00004.png").unlink()
    assert main([*train[:1], "clip", *train[2:], "--resume"]) == 1
    assert "pictures was " in capsys.readouterr().err
    assert torch.load(model / "runs/clip/checkpoint.pt", weights_only=True)["step"] == 2
