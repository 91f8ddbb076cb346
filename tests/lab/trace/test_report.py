r"""The report: five files, whole or not at all."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from ldm.errors import LdmError
from ldm.lab.trace import report
from ldm.lab.trace.recorder import record
from ldm.lab.trace.report import COLUMNS, steps_csv, write_report

FILES = {"film.png", "film.gif", "attention.png", "latent.png", "steps.csv"}


def one_image(model, **options):
    with record(model, "red ox") as recording:
        options = {"seed": 1, "steps": 2, "size": (8, 8)} | options
        images = model.generate("red ox", progress=recording.watch(), **options)
    return recording, images


def test_one_image_is_reported_in_the_folder_itself(model, tmp_path):
    recording, images = one_image(model)
    written = write_report(recording, images, tmp_path / "new" / "trace")
    assert {path.name for path in written} == FILES and len(written) == len(FILES)
    assert set((tmp_path / "new" / "trace").iterdir()) == set(written)
    for path in written:
        if path.suffix != ".csv":
            with Image.open(path) as image:
                image.load()
    with Image.open(tmp_path / "new" / "trace" / "film.gif") as film:
        assert film.n_frames == 3 and film.info["loop"] == 0


def test_each_image_of_a_batch_has_a_folder_of_its_own(recorded, tmp_path):
    recording, images = recorded
    written = write_report(recording, images, tmp_path)
    assert {(path.parent.name, path.name) for path in written} == {(i, f) for i in "01" for f in FILES}
    assert all(path.is_file() for path in written)
    texts = [(tmp_path / i / "steps.csv").read_text() for i in "01"]
    assert texts == [steps_csv(recording, 0), steps_csv(recording, 1)] and texts[0] != texts[1]


def test_the_csv_holds_each_steps_numbers(recorded):
    recording, _ = recorded
    rows = list(csv.DictReader(io.StringIO(steps_csv(recording, 1))))
    assert [row["t"] for row in rows] == ["667", "334", "1"] and tuple(rows[0]) == COLUMNS
    for row, m in zip(rows, recording.steps, strict=True):
        numbers = [float(row[name]) for name in COLUMNS[2:]]
        expected = [m.alpha_bar, m.alpha_bar / (1 - m.alpha_bar), m.guidance_size[1], m.guidance_angle[1]]
        assert numbers == pytest.approx(expected, rel=1e-5)


def test_without_guidance_its_columns_are_empty(model):
    recording, _ = one_image(model, guidance=1.0)
    lines = steps_csv(recording).splitlines()
    assert len(lines) == 3 and all(line.endswith(",,") for line in lines[1:])


def test_an_empty_prompt_and_a_strange_one_can_be_reported(model, tmp_path):
    for i, prompt in enumerate(("", "red\n\x07\ud800 🦊 " + "ox" * 200)):
        with record(model, prompt) as recording:
            images = model.generate(prompt, seed=1, steps=1, size=(8, 8), progress=recording.watch())
        assert len(write_report(recording, images, tmp_path / str(i))) == 5


def test_nothing_is_written_if_a_sheet_cannot_be_drawn(model, tmp_path, monkeypatch):
    recording, images = one_image(model)
    monkeypatch.setattr(report, "latent_sheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(recording, images, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_file_leaves_the_old_one(model, tmp_path, monkeypatch):
    recording, images = one_image(model)
    write_report(recording, images, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(self, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="no space"):
        write_report(recording, images, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_recording_that_saw_nothing_or_something_else_is_refused(model, tmp_path):
    with record(model, "red ox") as recording:
        images = model.generate("red ox", seed=1, steps=1, size=(8, 8))
    with pytest.raises(LdmError, match=r"recording is empty.*watch"):
        write_report(recording, images, tmp_path)
    recording, images = one_image(model)
    with pytest.raises(LdmError, match="2 images and a recording of 1"):
        write_report(recording, images * 2, tmp_path)
    assert np.asarray(images[0]).shape == (8, 8, 3) and list(tmp_path.iterdir()) == []
