r"""`ldm exercise`."""

import pytest

from ldm.lab.exercises.exercise import EXERCISES
from ldm.lab.exercises.patching import live_source, stub
from ldm.lab.exercises.progress import note
from tests.cli.terminal import files, run, wrong


def test_the_list_names_every_exercise_and_marks_those_begun(capsys):
    run(capsys, "exercise", "start", "geglu")
    code, out, _ = run(capsys, "exercise", "list")
    lines = [line for line in out.splitlines()[:-2] if line[:2] in ("* ", "  ")]
    assert code == 0 and [line[2:].split()[0] for line in lines] == list(EXERCISES)
    assert "3. Attention" in out.splitlines()
    assert [line for line in lines if line.startswith("*")] == [
        f"* geglu                {EXERCISES['geglu'].task}"
    ]


def test_start_writes_the_stub_once_and_never_over_a_file(capsys, work):
    assert run(capsys, "exercise", "start", "attention") == (0, "outputs/exercises/attention.py\n", [])
    path = work / "outputs" / "exercises" / "attention.py"
    assert path.read_text(encoding="utf-8") == stub(EXERCISES["attention"])
    path.write_text("mine", encoding="utf-8")
    code, out, [line] = run(capsys, "exercise", "start", "attention")
    assert (code, out) == (1, "") and "exists and is kept" in line
    assert path.read_text(encoding="utf-8") == "mine"


def test_start_all_writes_those_that_are_not_there_yet(capsys, work):
    run(capsys, "exercise", "start", "geglu", "--out", "mine")
    code, out, lines = run(capsys, "exercise", "start", "all", "--out", "mine")
    assert (code, lines) == (0, []) and len(out.splitlines()) == len(EXERCISES) - 1
    assert files(work) == sorted(f"mine/{name}.py" for name in EXERCISES)


@pytest.mark.long
def test_a_right_and_a_wrong_answer(capsys, work):
    run(capsys, "exercise", "start", "reparametrise")
    path = work / "outputs" / "exercises" / "reparametrise.py"
    begun = path.read_text(encoding="utf-8")
    code, out, lines = run(capsys, "exercise", "check", "reparametrise")
    assert code == 1 and lines == ["ldm: reparametrise does not pass its tests yet"]
    assert (
        out
        == "reparametrise: not written yet. outputs/exercises/reparametrise.py still raises NotImplementedError.\n"
    )

    before, after = begun.split("    raise NotImplementedError")
    rest = after.partition("\n")[2]
    path.write_text(
        f"{before}    sigma = logvar.exp()\n    return mean + noise * sigma\n{rest}", encoding="utf-8"
    )
    code, out, _ = run(capsys, "exercise", "check", "reparametrise")
    assert code == 1 and "    got 9.5, expected 6.5" in out  # 5 + 9 * 0.5
    assert "This uses the variance as the standard deviation" in out

    path.write_text(f"{before}    return mean + noise * (logvar / 2).exp()\n{rest}", encoding="utf-8")
    code, out, lines = run(capsys, "exercise", "check", "reparametrise")
    assert (code, lines) == (0, []) and out.startswith("reparametrise: right.")
    assert "x reparametrise" in run(capsys, "exercise", "list")[1]


def test_the_solution_is_the_live_code_with_its_place(capsys):
    code, out, _ = run(capsys, "exercise", "solution", "guidance")
    place, site, _, *text = out.splitlines()
    assert code == 0 and place.startswith("# ldm/diffusion/guidance.py, lines ")
    assert site == "# on the site: ldm/diffusion/guidance.html#classifier_free_guidance"
    first, last = map(int, place.split("lines ")[1].split(" to "))
    assert text == live_source(EXERCISES["guidance"]).splitlines()[first - 1 : last]


@pytest.mark.parametrize("action", ["start", "check", "hint", "solution"])
def test_an_unknown_or_missing_name_is_an_error(capsys, action):
    code, out, [line] = run(capsys, "exercise", action, "attenton")
    assert (code, out) == (1, "") and line == "ldm: exercise 'attenton'; did you mean attention?"
    code, out, [line] = run(capsys, "exercise", action)
    assert (code, out) == (1, "") and "needs a name" in line


def test_hints_come_one_after_the_other_and_the_count_is_kept(capsys, work):
    hints = EXERCISES["geglu"].hints
    said = [run(capsys, "exercise", "hint", "geglu")[1] for _ in range(4)]
    assert said[:3] == [f"Hint {i} of 3: {hint}\n" for i, hint in enumerate(hints, start=1)]
    last = "That was the last one. The code: ldm exercise solution geglu\n"
    assert said[3] == f"Hint 3 of 3: {hints[2]}\n{last}"
    assert files(work) == ["outputs/exercises/progress.json"]


def test_a_solved_exercise_is_marked_in_the_list(capsys, work):
    note(work / "outputs" / "exercises", EXERCISES["geglu"], solved=True)
    _, out, _ = run(capsys, "exercise", "list")
    assert f"x geglu                {EXERCISES['geglu'].task}" in out.splitlines()
    assert f"x solved (1 of {len(EXERCISES)}), * started in outputs/exercises" in out.splitlines()


def test_an_unknown_action_is_wrong_usage(capsys):
    assert "invalid choice: 'solve'" in wrong(capsys, "exercise", "solve", "attention")


def test_checking_what_was_not_begun_says_how_to_begin(capsys):
    code, _, [line] = run(capsys, "exercise", "check", "attention")
    assert (
        code == 1
        and line
        == "ldm: there is no outputs/exercises/attention.py; begin with `ldm exercise start attention`"
    )


def test_a_file_that_is_no_text_is_an_error(capsys, work):
    (work / "attention.py").write_bytes(b"\xff\xfe")
    code, _, [line] = run(capsys, "exercise", "check", "attention", "--out", ".")
    assert code == 1 and line.startswith("ldm: attention.py is not a text in UTF-8")
