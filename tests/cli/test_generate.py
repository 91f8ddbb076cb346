r"""`ldm generate`: which options go together. (What it paints: test_new.py and test_again.py.)"""

import pytest

from tests.cli.terminal import wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a PROMPT (or --from PNG)"),
        (["a dog", "--strength", "0.5"], "--strength 0.5 without a picture to start from: give --init IMG too"),
        (["a dog", "--mask", "m.png"], "--mask m.png without a picture to start from: give --init IMG too"),
        (["a dog", "--init", "i.png", "--keep-pixels"], "--keep-pixels without a mask, which says what to keep: "
         "give --mask IMG too"),
        (["a dog", "--trace", "t", "--batch", "2"], "--trace looks at one picture: leave --batch 2 out"),
        (["a dog", "--from", "x.png"], "--from takes that from the picture: leave a PROMPT out, or --from"),
        (["--from", "x.png", "--seed", "0"], "--from takes that from the picture: leave --seed out, or --from"),
        (["--from", "x.png", "--no-weighting"], "--from takes that from the picture: leave --no-weighting out, "
         "or --from"),
        (["--from", "x.png", "--weights", "ema"], "--from takes that from the picture: leave --weights out, "
         "or --from"),
        (["--from", "x.png", "--keep-pixels"], "--from takes that from the picture: leave --keep-pixels out, "
         "or --from"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_wrong_usage(capsys, arguments, message):
    assert wrong(capsys, "generate", *arguments) == f"ldm generate: error: {message}"
