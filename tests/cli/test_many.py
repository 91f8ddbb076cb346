r"""`ldm generate --prompts`: the images of a list, however often interrupted, in however many processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm
from ldm.cli import generation, new
from ldm.images.metadata import Group, read_record
from tests.cli.terminal import files, pixels, run, wrong

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ["00001-7.png", "00001-8.png", "00003-9.png", "00003-10.png", "00004-11.png", "00004-12.png"]


@pytest.fixture
def prompts(work) -> Path:
    (work / "list.txt").write_text("a dog\n\n  red dog \nred\n")
    return work / "list.txt"


@pytest.fixture
def paint(capsys, model, prompts):
    def run_it(*more, out="out"):
        options = ("--prompts", prompts, "--batch", 2, "--seed", 7, "--model", model, "--out", out)
        return run(capsys, "generate", *options, *more)

    return run_it


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_list_becomes_images_named_after_line_and_seed(paint, model, work):
    code, out, err = paint()
    assert (code, err) == (0, []) and out.splitlines() == [f"out/{name}" for name in NAMES]
    # The seeds count on through the list, four pictures in a group: the fifth begins the second one.
    expected = ldm.load(model).generate(["a dog", "a dog", "red dog", "red dog"], seed=7)
    expected += ldm.load(model).generate(["red", "red"], seed=11)
    for name, image in zip(NAMES, expected, strict=True):
        assert (pixels(work / "out" / name) == np.asarray(image)).all()
    record = read_record(work / "out" / NAMES[4])
    assert (record.prompt, record.seed, record.group) == ("red", 11, Group(0, 2))


def test_each_image_is_the_one_of_its_prompt_and_seed_alone(paint, model, work):
    paint()
    alone = np.asarray(ldm.load(model).generate("red dog", seed=10)[0]).astype(int)
    assert np.abs(pixels(work / "out/00003-10.png") - alone).max() <= 1
    assert np.abs(pixels(work / "out/00001-8.png") - alone).max() > 1


def test_the_strength_that_was_taken_is_recorded(paint, work):
    Image.new("RGB", (16, 16), "red").save(work / "red.png")
    assert paint("--init", "red.png")[0] == 0
    assert read_record(work / "out" / NAMES[0]).strength == 0.75


def test_an_image_generated_again_alone_does_not_miss_a_longer_prompt_beside_it(
    capsys, model, paint, prompts, work
):
    prompts.write_text("a dog\n" + "red dog " * 20)  # chunks make contexts longer, of a whole group
    assert paint("--batch", 1, "--long-prompt", "chunk")[0] == 0
    code, _, err = run(
        capsys, "generate", "--from", "out/00001-7.png", "--model", model, "--out", "again.png"
    )
    assert (code, err) == (0, ["the same pixels as out/00001-7.png"])


def test_it_goes_on_where_it_was_interrupted_and_generates_the_same_bytes(paint, work, monkeypatch):
    paint(out="whole")
    painted = []

    def interrupted(model, record, *args, **kwargs):
        if painted:
            raise KeyboardInterrupt
        painted.append(record.seed)
        return generation.generate_group(model, record, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(new, "generate_group", interrupted)
        assert paint()[0] == 130
    assert sorted(contents(work / "out")) == sorted(NAMES[:4])
    (work / "out" / NAMES[1]).unlink()  # nor need what is there be the first
    kept = {name: (work / "out" / name).stat().st_mtime_ns for name in (NAMES[0], *NAMES[2:4])}
    code, out, err = paint()
    assert (code, err) == (0, ["3 of 6 images exist already"])
    assert out.splitlines() == [f"out/{name}" for name in (NAMES[1], *NAMES[4:])]
    assert {name: (work / "out" / name).stat().st_mtime_ns for name in kept} == kept
    assert contents(work / "out") == contents(work / "whole")
    monkeypatch.setattr(new, "generate_group", None)  # and then nothing is left to paint
    assert paint() == (0, "", ["6 of 6 images exist already"])


@pytest.mark.parametrize("other", ["the same", "another"])
def test_what_another_process_has_written_meanwhile_is_never_replaced(paint, model, work, monkeypatch, other):
    r"""Two lists, the same folder and the same seeds: both look before either writes."""
    paint(out="theirs")
    theirs = work / "theirs" / NAMES[0]
    if other == "another":
        theirs = work / "theirs" / NAMES[1]

    def overtaken(*args, **kwargs):
        images = generation.generate_group(*args, **kwargs)
        (work / "out").mkdir(exist_ok=True)
        if not (work / "out" / NAMES[0]).exists():
            (work / "out" / NAMES[0]).write_bytes(theirs.read_bytes())
        return images

    monkeypatch.setattr(new, "generate_group", overtaken)
    code, _, err = paint()
    assert (work / "out" / NAMES[0]).read_bytes() == theirs.read_bytes()
    if other == "the same":
        assert code == 0 and contents(work / "out") == contents(work / "theirs")
    else:
        assert code == 1 and err[-1].startswith(
            f"ldm: out/{NAMES[0]} is a different image from the one asked for"
        )


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_groups_and_generate_the_same_bytes(paint, work, monkeypatch, world):
    paint(out="alone")
    shares = []
    for rank in range(world):
        monkeypatch.setattr(new, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(new, "world_size", lambda: world)
        code, out, _ = paint()
        assert code == 0
        shares.append(out.splitlines())
    assert [len(share) for share in shares] == [4, 2, 0][:world]
    assert contents(work / "out") == contents(work / "alone")


@pytest.mark.long
def test_under_torchrun_two_processes_generate_what_one_generates(paint, model, prompts, work):
    paint(out="alone")
    torchrun = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "ldm",
        "generate",
    )
    options = ("--prompts", prompts, "--batch", "2", "--seed", "7", "--model", model, "--out", work / "out")
    done = subprocess.run(
        [sys.executable, *torchrun, *map(str, options)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(str(work / "out" / name) for name in NAMES)
    assert contents(work / "out") == contents(work / "alone")


def test_without_a_seed_it_is_the_same_one_each_time(capsys, model, prompts, work):
    code, out, _ = run(capsys, "generate", "--prompts", prompts, "--model", model)
    assert code == 0 and out.splitlines() == [f"outputs/{n}.png" for n in ("00001-0", "00003-1", "00004-2")]
    assert files(work) == ["list.txt", *out.splitlines()]


def test_another_image_in_its_place_is_an_error_and_is_kept(paint, prompts, work):
    paint()
    before = contents(work / "out")
    for change in ("list", "option"):
        if change == "list":
            prompts.write_text("a cat\n\nred dog\nred\n")
        code, out, err = paint(*(() if change == "list" else ("--steps", 3)))
        assert (code, out) == (1, "")
        assert err[-1] == (
            "ldm: out/00001-7.png is a different image from the one asked for; give another folder, or remove it"
        )
        prompts.write_text("a dog\n\n  red dog \nred\n")
    assert contents(work / "out") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            "cannot read list.txt: No such file or directory",
        ),
        (b" \n\n", "list.txt is empty; expected a text file with a prompt on each line"),
        (b"a\n" + b"x" * 100_001, "list.txt: line 2 has 100,001 characters; expected at most 100,000"),
        (b"x" * 16_000_001, "list.txt has 16,000,001 bytes; expected at most 16,000,000"),
        (b"a d\xf6g", "list.txt is not a text in UTF-8 ('utf-8' codec can't decode byte 0xf6"),
    ],
)
def test_a_list_that_is_none_is_an_error(capsys, model, work, text, message):
    if text is not None:
        (work / "list.txt").write_bytes(text)
    code, out, [told] = run(capsys, "generate", "--prompts", "list.txt", "--model", model)
    assert (code, out) == (1, "") and told.startswith(f"ldm: {message}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_list_in_a_pipe_is_not_waited_for(capsys, model, work):
    os.mkfifo(work / "list.txt")
    code, _, [told] = run(capsys, "generate", "--prompts", "list.txt", "--model", model)
    assert code == 1 and told.startswith(
        "ldm: cannot read list.txt: it is a named pipe; expected a regular file"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a dog"], "--prompts generates a list: leave out the PROMPT, or --prompts"),
        (["--trace", "t"], "--prompts generates a list: leave out --trace, or --prompts"),
        (["--out", "a.png"], "--prompts generates many images: give a folder, not --out a.png"),
        (
            ["--seed", "-1"],
            "--prompts cannot continue later with a random seed: give another --seed",
        ),
        (
            ["--from", "x.png"],
            "--from repeats what the image records: leave out --prompts, or give what `ldm info PNG` "
            "shows instead of --from",
        ),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(capsys, arguments, message):
    assert wrong(capsys, "generate", "--prompts", "l.txt", *arguments) == f"ldm generate: error: {message}"


def test_a_list_whose_seeds_would_run_over_is_an_error_before_anything_is_generated(paint, work):
    code, out, [line] = paint("--seed", 2**32 - 5)
    assert (code, out) == (1, "") and line.startswith(
        "ldm: seed 4294967291 and the 5 after it; the largest is"
    )
    assert not (work / "out").exists()


def test_a_batch_of_none_is_an_error(paint):
    assert paint("--batch", 0) == (1, "", ["ldm: a batch of 0 images; expected at least 1"])
