r"""`ldm info`, `ldm explore`, `ldm shapes`: looking at an image, and inside."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from ldm.cli import generation
from ldm.cli.look import rows
from ldm.cli.output import progress_bar
from ldm.images.metadata import File, Group, UsedLora
from tests.cli.terminal import files, run
from tests.images.test_metadata import RECORD, write_picture

REPOSITORY = Path(__file__).resolve().parents[2]


def test_info_says_what_made_an_image(capsys, work):
    write_picture(work / "dog.png", RECORD)
    code, out, err = run(capsys, "info", "dog.png")
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        "prompt      a dog",
        "seed        42",
        "sampler     ddim, 30 steps, guidance 3.0",
        "size        128x64",
        "model       tiny",
        "            config.json (sha256 aaaaaaaaaa)",
        "            unet.safetensors (sha256 bbbbbbbbbb)",
        "versions    ldm 0.1.0, torch 2.13.0, Python 3.12.1, Pillow 12.0",
        "computed    in float32 on cpu, 2 threads",
        "again       ldm generate --from dog.png",
    ]


def test_info_says_from_what_an_image_was_made(capsys, work):
    init, mask = File("dog.png", "c" * 64), File("mask.png", "d" * 64)
    made = replace(
        RECORD,
        init=init,
        strength=0.5,
        mask=mask,
        keep_pixels=True,
        traced=True,
        group=Group(2, 4),
        prompt="a\n\x1bb",
    )
    told = dict(rows(made))
    assert told["init"] == "dog.png (sha256 cccccccccc), strength 0.5"
    assert told["mask"] == "mask.png (sha256 dddddddddd), other pixels kept exactly"
    assert told["group"] == "image 3 of 4 generated together"
    assert told["computed"].endswith("2 threads, traced")
    told = dict(rows(replace(RECORD, clip_skip=2, spacing="karras")))
    assert told["clip skip"] == "2" and told["sampler"] == "ddim, karras, 30 steps, guidance 3.0"
    told = dict(rows(replace(RECORD, compiled=True, tile=True)))
    assert told["computed"].endswith("2 threads, compiled, in tiles")
    read = replace(RECORD, weights="live", prediction="v", config=File("c.json", "e" * 64))
    told = dict(rows(replace(read, weighting=False, long_prompt="chunk")))
    assert told["model"] == "tiny, weights live, predicts v"
    assert told["config"] == "c.json (sha256 eeeeeeeeee)"
    assert told["brackets"] == "read as text (--no-weighting)"
    assert told["long prompt"] == "read in chunks (--long-prompt chunk)"
    lora = UsedLora("ink.safetensors", "f" * 64, 0.5)
    named = list(rows(replace(RECORD, loras=(lora,), threads=1)))
    assert named[named.index(("model", "tiny")) :][1:4] == [
        ("", "config.json (sha256 aaaaaaaaaa)"),
        ("", "unet.safetensors (sha256 bbbbbbbbbb)"),
        ("LoRA", "ink.safetensors (sha256 ffffffffff), strength 0.5"),
    ]
    assert named[-1] == ("computed", "in float32 on cpu, 1 thread") and ("negative", "a hat") in rows(
        replace(RECORD, negative="a hat")
    )
    write_picture(work / "dog.png", made)
    assert run(capsys, "info", "dog.png")[1].splitlines()[0] == r"prompt      a\n\x1bb"


def test_info_does_not_wait_for_torch(work):
    write_picture(work / "dog.png", RECORD)
    code = "import sys, ldm.cli\nprint(ldm.cli.main(['info', 'dog.png']), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_info_on_an_image_of_another_program_is_one_clear_line(capsys, work):
    Image.new("RGB", (8, 8)).save(work / "x.png")
    code, out, [line] = run(capsys, "info", "x.png")
    assert (code, out) == (1, "") and line.startswith("ldm: x.png has no record of how it was made; ")


def told(options: dict) -> str:
    return "".join(f", {name} {value}" for name, value in options.items() if value is not None)


@pytest.fixture
def inside(monkeypatch):
    r"""Stands in for `ldm.lab.trace`, and notes what it is asked for."""
    asked = []
    monkeypatch.setattr(generation, "load_model", lambda name, **options: f"the model {name}{told(options)}")
    monkeypatch.setitem(sys.modules, "ldm.lab.trace", ModuleType("ldm.lab.trace"))
    explore = SimpleNamespace(explore=lambda *arguments, **options: asked.append((*arguments, options)))
    monkeypatch.setitem(sys.modules, "ldm.lab.trace.explore", explore)
    shapes = SimpleNamespace(
        shapes_table=lambda model: f"table of {model}\n", shapes_svg=lambda model: f"<svg>{model}</svg>\n"
    )
    monkeypatch.setitem(sys.modules, "ldm.lab.trace.shapes", shapes)
    return asked


def test_explore_writes_its_page(capsys, inside):
    assert run(capsys, "explore", "a dog", "--steps", 7) == (0, "explore.html\n", [])
    options = ("-o", "x/y.html", "--model", "mine", "--seed", 1, "--guidance", 2, "--versus", "a cat")
    assert run(capsys, "explore", "a dog", *options) == (0, "x/y.html\n", [])
    plain = {"versus": None, "seed": 42, "steps": 7, "guidance": None, "progress": progress_bar}
    other = {"versus": "a cat", "seed": 1, "steps": None, "guidance": 2.0, "progress": progress_bar}
    assert inside == [
        ("the model tiny", "a dog", Path("explore.html"), plain),
        ("the model mine", "a dog", Path("x/y.html"), other),
    ]


def test_explore_says_at_once_that_it_cannot_write(capsys, inside, work):
    (work / "taken").touch()
    code, _, [line] = run(capsys, "explore", "a dog", "-o", "taken/x.html")
    assert code == 1 and line == "ldm: cannot write taken/x.html: taken is not a folder; give another place"
    code, _, [line] = run(capsys, "explore", "a dog", "-o", "x.png")
    assert code == 1 and line == "ldm: --out x.png; the page is written as .html: give such a name"
    assert inside == [] and files(work) == ["taken"]


def test_shapes_are_a_table_and_on_demand_a_drawing(capsys, inside, work):
    assert run(capsys, "shapes") == (0, "table of the model tiny\n", []) and files(work) == []
    assert run(capsys, "shapes", "--model", "m", "--svg", "m.svg") == (0, "table of the model m\nm.svg\n", [])
    assert (work / "m.svg").read_text(encoding="utf-8") == "<svg>the model m</svg>\n"


def test_how_to_read_the_files_is_handed_on(capsys, inside):
    how = ("--config", "c.json", "--weights", "live", "--prediction", "v")
    said = "the model tiny, config c.json, weights live, prediction v"
    assert run(capsys, "shapes", *how) == (0, f"table of {said}\n", [])
    run(capsys, "explore", "a dog", *how)
    assert inside[0][0] == said
