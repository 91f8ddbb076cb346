r"""Whatever is typed: nothing but an exit code of 0, 1 or 2 comes out, and never a bug."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import ldm
from ldm.cli import main

TEXT = st.text(
    st.characters(exclude_categories=()), max_size=30
)  # every character, lone surrogates and NUL as well
# Names of places stay in the folder of the test.
PLACE = TEXT.filter(lambda text: "/" not in text and "\\" not in text and text != "..")


def some(*values: object) -> st.SearchStrategy[str]:
    r"""Values that may work, or anything."""
    return st.sampled_from([str(value) for value in values]) | TEXT


NUMBERS = st.integers().map(str) | st.floats().map(str)
OPTIONS = {
    "negative": TEXT,
    "sampler": some("ddim", "ddpm", "DDIM", "dimm"),
    "clip-skip": some(1, 2, 0, 99),
    "spacing": some("karras", "SGM Uniform", "trailing", "lcm", "karas"),
    "steps": some(1, 2, 3, 0, -1, 1001, 10**30, "1.5"),  # a thousand steps would only take long
    "guidance": some(1, 0, 7.5, -3) | NUMBERS,
    "seed": some(0, -1, 2**32 - 1, 2**32) | NUMBERS,
    "size": some(
        "8x8",
        "16x8",
        "2x2",
        "0x8",
        "15x15",
        "8",
        "8x8x8",
        "-2x8",
        "-2x-2",
        f"{10**30}x{10**30}",
        f"{2**40}x2",
    ),
    "batch": some(1, 2, 5, 0, -1).filter(lambda text: not text.isdigit() or int(text) < 9),
    "model": some("tiny", "."),
    "out": st.just("new/a.png") | PLACE,
    "device": some("cpu", "cuda", "cpu:3", "meta"),
    "dtype": some("float32", "float64", "bfloat16", "float16", "int8"),
    "strength": some(0.5, 1, 0, 2) | NUMBERS,
    "mask": some("dog.png", "broken.png", "."),
    "init": some("dog.png", "broken.png", "."),
    "from": some("made.png", "dog.png", "broken.png", "."),
    "trace": st.just("inside"),
    "long-prompt": some("truncate", "chunk"),
    "config": some("config.json", "made.png", "."),
    "weights": some("ema", "live"),
    "prediction": some("eps", "v"),
}
# What the commands for checkpoints may be given: much of it makes no sense to some of them.
PLACES = ["MODEL", "MODEL", "made.png", "broken.png", "broken.safetensors", "out", "out.safetensors"]
FLAGS = [
    "--no-hash", "--force", "--to=diffusers", "--to=compvis", "--dtype=float16", "--weights=live", "--prediction=v",
    "--config=config.json", "--config=made.png", "--release=v1-4", "--files=.", "--files=no", "--device=cpu",
]  # fmt: skip


REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder(tmp_path, model, monkeypatch):
    r"""A folder with images, good and broken, and a model that is loaded once."""
    real = ldm.load
    load = cache(lambda **options: real(model, **options))
    monkeypatch.setattr(
        ldm, "load", lambda name, **options: load(**options) if name == model else real(name, **options)
    )
    Image.new("RGBA", (20, 12), "red").save(tmp_path / "dog.png")
    main(["generate", "red dog", "--model", model, "--seed", "1", "--out", "made.png"])
    (tmp_path / "broken.png").write_bytes((tmp_path / "made.png").read_bytes()[:700])
    (tmp_path / "broken.safetensors").write_bytes((Path(model) / "unet.safetensors").read_bytes()[:700])
    (tmp_path / "config.json").write_bytes((Path(model) / "config.json").read_bytes())
    return tmp_path


def outcome(capsys, arguments: list[str]) -> int:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code in (0, 1, 2), arguments
    unwanted = ["a bug in ldm", "the system refused", *["Traceback"] * ("--debug" not in arguments)]
    assert not any(words in err for words in unwanted), (arguments, err)
    if code == 1:
        assert err.splitlines()[-1].startswith("ldm: "), (arguments, err)
    return code


@pytest.mark.long
@settings(REPEATABLE, max_examples=300)
@given(
    prompt=st.none() | TEXT,
    options=st.fixed_dictionaries({}, optional=OPTIONS),
    flags=st.sets(st.sampled_from(["--keep-pixels", "--no-weighting"])),
)
def test_generate_takes_any_values(folder, model, capsys, prompt, options, flags):
    options = {"model": model, "out": "a.png"} | options
    arguments = [f"--{name}={value}" for name, value in options.items()]
    outcome(capsys, ["generate", *arguments, *sorted(flags), *([] if prompt is None else ["--", prompt])])


@pytest.mark.long
@settings(REPEATABLE, max_examples=300)
@given(
    prompt=TEXT,
    name=st.sampled_from(sorted(OPTIONS)),
    data=st.data(),
)
def test_generate_takes_any_value_of_one_option(folder, model, capsys, prompt, name, data):
    options = {"model": model, "out": "a.png", "steps": "1", name: data.draw(OPTIONS[name])}
    if name == "from":
        prompt, options = None, {"out": "a.png", "from": options["from"]}
    if name in ("strength", "mask"):
        options["init"] = "broken"
    arguments = [f"--{key}={value}" for key, value in options.items()]
    outcome(capsys, ["generate", *arguments, *([] if prompt is None else ["--", prompt])])


@settings(REPEATABLE, max_examples=100)
@given(
    words=st.lists(
        st.sampled_from(["info", "train", "--debug", "made.png", "broken.png", "--help"]) | PLACE, max_size=4
    )
)
def test_any_words_are_a_command_or_wrong_usage(folder, capsys, words):
    code = outcome(capsys, words)
    assert code != 2 or words[:1] != ["--help"]


@settings(REPEATABLE, max_examples=200)
@given(
    command=st.sampled_from(["inspect", "convert", "export", "verify", "export --to=diffusers"]),
    places=st.lists(st.sampled_from(PLACES) | PLACE, min_size=1, max_size=2),
    flags=st.lists(st.sampled_from(FLAGS) | TEXT, max_size=2),
)
def test_the_commands_for_checkpoints_take_any_words(folder, model, capsys, command, places, flags):
    outcome(capsys, [*command.split(), *(model if place == "MODEL" else place for place in places), *flags])
