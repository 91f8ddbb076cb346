r"""`ldm demo`. (`ldm evaluate` is tested beside the measures.)"""

import re

import numpy as np

import ldm
from ldm.backend import trial
from ldm.backend.accelerate import TRIALS
from ldm.postcards import DEMO_PROMPTS
from tests.cli.terminal import files, pixels, run


def test_the_demo_generates_six_prompts_and_a_sheet(capsys, model, work):
    code, out, _ = run(capsys, "demo", "--model", model, "--seed", 4, "--batch", 2, "--out", "six")
    names = [[f"six/demo-{i}-{seed}.png" for seed in (4, 5)] for i in range(1, 7)]
    assert code == 0 and files(work) == sorted([*sum(names, []), "six/demo.png"])
    lines = out.splitlines()
    assert lines[:-2] == [line for prompt, pair in zip(DEMO_PROMPTS, names) for line in (prompt, *pair)]
    assert lines[-2] == "six/demo.png"
    told = rf"12 images and a sheet of them in {re.escape(str(work / 'six'))}, \d+\.\d s in all"
    assert re.fullmatch(told, lines[-1])
    painter = ldm.load(model)
    for prompt, pair in zip(DEMO_PROMPTS, names):
        for name, image in zip(pair, painter.generate(prompt, seed=4, batch=2)):
            assert (pixels(work / name) == np.asarray(image)).all()
    # A row a prompt, under a line of text 26 pixels high; a column a seed; gaps of 6.
    sheet = pixels(work / "six/demo.png")
    assert sheet.shape == (6 * (26 + 16) + 6, 2 * (16 + 6) + 6, 3)
    second_of_third = pixels(work / names[2][1])
    assert (sheet[2 * 42 + 26 : 3 * 42, 28:44] == second_of_third).all()


def test_the_sheet_of_the_demo_goes_where_it_is_asked_to(capsys, model, work):
    code, out, _ = run(
        capsys, "demo", "--model", model, "--batch", 1, "--out", "six", "--sheet", "docs/sheet.png"
    )
    assert code == 0 and "docs/sheet.png" in out.splitlines()
    assert "docs/sheet.png" in files(work) and "six/demo.png" not in files(work)


def test_the_contact_sheet_and_the_demo_fail_in_the_same_way(capsys, model, work):
    (work / "taken").touch()
    for command in (
        ("postcards", "--size", 16, "--grid", "taken/x.png"),
        ("demo", "--model", model, "--out", "taken"),
    ):
        code, _, lines = run(capsys, *command)
        assert code == 1 and lines[-1].startswith("ldm: cannot write taken")


def test_a_sheet_that_cannot_be_written_is_said_before_anything_is_generated(capsys, model, work):
    (work / "taken").touch()
    code, out, [told] = run(capsys, "demo", "--model", model, "--batch", 1, "--sheet", "taken/x.png")
    assert told == "ldm: cannot write taken/x.png: taken is not a folder; give another place"
    assert code == 1 and out == "" and files(work) == ["taken"]


def test_the_demo_names_its_files_after_the_seed_that_it_drew(capsys, model, work):
    run(capsys, "demo", "--model", model, "--seed", -1, "--batch", 1, "--out", "six")
    [name] = [name for name in files(work) if name.startswith("six/demo-1-")]
    seed = int(name.removesuffix(".png").rpartition("-")[2])
    [image] = ldm.load(model).generate(DEMO_PROMPTS[0], seed=seed)
    assert (pixels(work / name) == np.asarray(image)).all()


def test_the_choices_are_tried_and_printed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LDM_TRIALS")
    monkeypatch.setattr(trial, "_ratios", {})
    monkeypatch.setattr(trial, "ratio", lambda one: 0.5 if "attention" in one.name else 1.5)
    code, out, _ = run(capsys, "bench", "--choices")
    machine, *lines, last = out.splitlines()
    assert code == 0 and machine == trial.machine_key() and str(trial.trials_file()) in last
    assert len(lines) == len(TRIALS)
    for line, one in zip(lines, TRIALS, strict=True):
        used = "attention" in one.name
        ending = "0.50 of the plain one's time, used" if used else "1.50 of the plain one's time, not used"
        assert line == f"  {one.name}: {ending}"
    monkeypatch.setenv("LDM_TRIALS", "off")
    assert "used\n" in run(capsys, "bench", "--choices")[1] and not trial.wins(TRIALS[1])
