r"""`ldm generate`: which options go together. (What it generates: test_new.py, test_many.py and test_replay.py.)"""

import pytest

from tests.cli.terminal import wrong

INIT = "there is no image to start from: leave out {}, or give --init IMG too"
FROM = (
    "--from repeats what the image records: leave out {}, or give what `ldm info PNG` shows instead of --from"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a PROMPT, or --prompts TXT, or --from PNG"),
        (["a dog", "--strength", "0.5"], INIT.format("--strength")),
        (["a dog", "--mask", "m.png"], INIT.format("--mask")),
        (["a dog", "--init", "i.png", "--keep-pixels"], "there is no mask to say what to keep: "
         "leave out --keep-pixels, or give --mask IMG too"),
        (["a dog", "--trace", "t", "--batch", "2"], "--trace shows one image: leave out --batch 2"),
        (["a dog", "--trace", "t", "--compile"], "--trace looks into the uncompiled U-Net: leave out --compile"),
        (["a dog", "--from", "x.png"], FROM.format("the PROMPT")),
        *((["--from", "x.png", *option.split()], FROM.format(option.split()[0])) for option in (
            "--seed 0", "--no-weighting", "--weights ema", "--keep-pixels", "--prompts x.txt")),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_wrong_usage(capsys, arguments, message):
    assert wrong(capsys, "generate", *arguments) == f"ldm generate: error: {message}"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--steps", "2.5"), "argument --steps: '2.5'; expected a whole number, such as 20"),
        (("--guidance", "much"), "argument --guidance: 'much'; expected a number, such as 7.5 or 1"),
        (("--control-end", "late"), "argument --control-end: 'late'; expected a number, such as 7.5 or 1"),
        (("--size", "12x"), "argument --size: '12x'; expected pixels, such as 192x128, or 192 for a square"),
    ],
)
def test_a_wrong_number_is_an_error_that_says_what_is_expected(capsys, option, message):
    assert wrong(capsys, "generate", "a dog", *option) == f"ldm generate: error: {message}"
