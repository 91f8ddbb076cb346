r"""The program as a whole: help, exit codes, and what becomes of failures."""

import logging
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ldm.cli import main, measure, program
from ldm.cli.program import COMMANDS
from ldm.errors import LdmError
from tests.cli.terminal import run, wrong

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug"],
        ["paint"],
        ["generate"],
        ["generate", "a dog", "--speed", "9"],
        ["generate", "a dog", "--steps", "many"],
        ["postcards"],
        ["train", "everything"],
    ],
)
def test_what_the_parser_does_not_know_is_exit_code_2(capsys, arguments):
    wrong(capsys, *arguments)


@pytest.mark.parametrize(
    "command",
    [[]]
    + [
        [name]
        for name in (
            "generate",
            "info",
            "explore",
            "shapes",
            "exercise",
            "museum",
            "inspect",
            "convert",
            "export",
            "verify",
            "demo",
        )
    ]
    + [["train"], ["evaluate"], ["bench"], ["postcards"]],
)
def test_help_is_exit_code_0(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: ldm", *command]))


def test_no_help_is_wider_than_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for add_options in COMMANDS:
        with pytest.raises(SystemExit):
            main([add_options.__name__.removesuffix("_options"), "--help"])
        assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_wrong_usage_is_two_lines_that_name_the_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["generate", "a dog", "--stepps", "3"])
    assert caught.value.code == 2 and capsys.readouterr().err.splitlines() == [
        "usage: ldm generate ...; `ldm generate --help` lists what it takes",
        "ldm generate: error: unrecognized arguments: --stepps 3",
    ]


def test_without_a_command_it_prints_the_help(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        main(["--help"])
    expected = capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["ldm"])
    for bare in (lambda: main([]), main):
        with pytest.raises(SystemExit) as caught:
            bare()
        assert caught.value.code == 0 and capsys.readouterr() == expected
    assert expected.out.startswith("usage: ldm") and "generate" in expected.out and expected.err == ""


def test_help_of_every_command_waits_for_nothing_heavy(work):
    code = """
import sys
from ldm.cli import main
from ldm.cli.program import COMMANDS
names = [add.__name__.removesuffix("_options") for add in COMMANDS]
assert names[:2] == ["generate", "info"] and len(names) == 16
for arguments in [[], *([name] for name in names)]:
    try:
        main([*arguments, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
print("heavy:", sorted({"torch", "numpy", "PIL", "matplotlib", "tqdm", "einops"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def failing(monkeypatch, error: BaseException) -> None:
    def broken(options):
        raise error

    monkeypatch.setattr(measure, "demo", broken)


def test_an_unexpected_error_is_one_line_that_calls_itself_a_bug(monkeypatch, capsys):
    failing(monkeypatch, ZeroDivisionError("division\nby \x1b[0m zero"))
    assert run(capsys, "demo") == (1, "", [
        r"ldm: a bug in ldm: ZeroDivisionError: division\nby \x1b[0m zero; run it again with --debug and report "
        "what it prints"
    ])  # fmt: skip


def test_trouble_of_the_machine_is_not_called_a_bug(monkeypatch, capsys):
    failing(monkeypatch, OSError(28, "No space left on device", "outputs/x.png"))
    told = "ldm: the system refused: No space left on device (outputs/x.png); --debug shows where"
    assert run(capsys, "demo") == (1, "", [told])


@pytest.mark.parametrize("error", [LdmError("no room"), ZeroDivisionError("x"), OSError("y")])
@pytest.mark.parametrize("arguments", [("--debug", "demo"), ("demo", "--debug")])
def test_the_traceback_comes_with_debug_alone_before_or_after_the_command(
    monkeypatch, capsys, error, arguments
):
    failing(monkeypatch, error)
    code, out, lines = run(capsys, *arguments)
    assert (code, out) == (1, "") and lines[0] == "Traceback (most recent call last):"
    assert any("in broken" in line for line in lines) and lines[-1].startswith("ldm: ")
    _, _, quiet = run(capsys, "demo")
    assert quiet == [lines[-1]]


def test_a_warning_is_a_line_without_a_place_in_the_code(monkeypatch, capsys):
    monkeypatch.setattr(measure, "demo", lambda options: warnings.warn("cut\nshort", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run(capsys, "demo") == (0, "", [r"cut\nshort"])


def test_what_the_package_logs_is_a_line_while_a_command_runs(monkeypatch, capsys):
    log = logging.getLogger("ldm")

    def command(options):
        log.debug("a detail")
        log.info("m.ckpt predicts %s\x1b[0m", "v")
        log.warning("removed x")

    monkeypatch.setattr(measure, "demo", command)
    before = (log.level, list(log.filters))
    assert run(capsys, "demo") == (0, "", [r"m.ckpt predicts v\x1b[0m", "removed x"])
    assert (log.level, list(log.filters)) == before


def test_the_program_keeps_its_heap(monkeypatch, capsys):
    kept = []
    monkeypatch.setattr(program, "keep_heap", lambda: kept.append(True))
    assert run(capsys, "exercise", "list")[0] == 0 and kept == [True]


def test_ctrl_c_is_exit_code_130(monkeypatch, capsys):
    failing(monkeypatch, KeyboardInterrupt("stopped; 3 are kept"))
    assert run(capsys, "demo", "--debug") == (130, "", ["ldm: stopped; 3 are kept"])


@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_has_read_enough_ends_it_quietly(lines):
    command = [sys.executable, "-m", "ldm", "exercise", "list"]
    program = subprocess.Popen(
        command,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for _ in range(lines):
        program.stdout.readline()
    program.stdout.close()
    said = program.stderr.read().decode()
    assert "Broken" not in said and "bug" not in said and program.wait() in (0, 141)


@pytest.mark.parametrize("arguments", [["exercise", "list"], ["--help"]])
def test_where_nothing_can_be_printed_nothing_is_and_that_is_no_failure(arguments):
    command = shlex.join([sys.executable, "-m", "ldm", *arguments]) + " >&-"
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_as_a_program_a_failure_is_one_line_and_no_traceback(work):
    command = [sys.executable, "-m", "ldm", "postcards", "--grid", "x.png", "--size", "16"]
    (work / "x.png").mkdir()
    done = subprocess.run(
        command, cwd=work, env={"PYTHONPATH": str(REPOSITORY), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"ldm: cannot write x.png: .+; give another place\n", done.stderr)
