r"""`ldm generate`: which options go together. (What it generates: test_new.py, test_many.py and test_replay.py.)"""

import pytest

from tests.cli.terminal import wrong

INIT = "there is no image to start from: leave out {}, or give --init IMG too"
FROM = "--from reads that from the image: leave out {}, or --from"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a PROMPT (or --from PNG)"),
        (["a dog", "--strength", "0.5"], INIT.format("--strength")),
        (["a dog", "--mask", "m.png"], INIT.format("--mask")),
        (["a dog", "--init", "i.png", "--keep-pixels"], "there is no mask to say what to keep: "
         "leave out --keep-pixels, or give --mask IMG too"),
        (["a dog", "--trace", "t", "--batch", "2"], "--trace shows one image: leave out --batch 2"),
        (["a dog", "--trace", "t", "--compile"], "--trace looks into the uncompiled U-Net: leave out --compile"),
        (["a dog", "--from", "x.png"], FROM.format("a PROMPT")),
        *((["--from", "x.png", *option.split()], FROM.format(option.split()[0])) for option in (
            "--seed 0", "--no-weighting", "--weights ema", "--keep-pixels", "--prompts x.txt")),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_wrong_usage(capsys, arguments, message):
    assert wrong(capsys, "generate", *arguments) == f"ldm generate: error: {message}"
