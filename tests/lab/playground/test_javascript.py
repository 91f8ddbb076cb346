r"""The page's tokenizer, noise and samplers give what the Python they mirror gives."""

import random
from pathlib import Path

import ftfy
import numpy as np
import pytest
import torch

from ldm.config import NoiseConfig
from ldm.diffusion.guidance import classifier_free_guidance, rescale_guidance
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import find_sampler
from ldm.diffusion.schedule import make_alpha_bar
from ldm.diffusion.spacing import initial_latents, sampler_levels
from ldm.lab.trace.recorder import prompt_words
from ldm.text.tokenizer import Tokenizer
from tests.lab.playground.javascript import CAN_RUN, evaluate

pytestmark = pytest.mark.skipif(not CAN_RUN, reason="neither node nor Chromium on this machine")

WEIGHTS = Path(__file__).resolve().parents[3] / "weights"

# --- the tokenizer -----------------------------------------------------------------------------------------------

BY_HAND = [
    "", " ", "a dog with glasses", "A  Dog's   GLASSES!", "1990 cats, 2 dogs", "l'été à la plage", "ΟΔΟΣ Σίσυφος",
    "a dog’s “hat” ﬁne ｆｕｌｌ　ｗｉｄｔｈ", "Tom &amp; Jerry &amp;lt;3", "<|startoftext|> red <|ENDOFTEXT|>",
    "🐶🎨 ok👍🏽", "नमस्ते दुनिया", "雪の中の犬", "a\tb\nc\r\nd\u2028e\x00f", "I'LL you'Re he's",
    "e\u0301 \u00e9 \u0130", "!!! -- ... ???", "x" * 300,
]  # fmt: skip
WORDS = [
    "a",
    "the",
    "dog",
    "cats",
    "rabbit",
    "with",
    "glasses",
    "mountains",
    "un",
    "chien",
    "lunettes",
    "près",
    "mer",
]
LETTERS = "abcXYZ  '’\"“”.,!?-0123456789éÈçœßñøÅžλΩжЯяאשعم日本語한글🐶🎨👍🏽\u0301\u200d"


def strings(count):
    r"""Sentences, and sequences of letters from everywhere, but none whose encoding ftfy takes for broken."""
    draw = random.Random(1)
    made = list(BY_HAND)
    while len(made) < count:
        if draw.random() < 0.5:
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, 30)))
            text = draw.choice((str, str.upper, str.title))(text)
        else:
            text = "".join(draw.choices(LETTERS, k=draw.randint(1, 40)))
        if ftfy.fix_encoding(text) == text:
            made.append(text)
    return made


def test_a_thousand_texts_have_the_same_ids(tmp_path):
    texts = strings(1000)
    for tokenizer in (Tokenizer.clip(pad="zero"), Tokenizer.load(WEIGHTS / "tiny" / "tokenizer")):
        settings = {"contextLength": tokenizer.context_length, "pad": tokenizer.pad}
        settings["merges"] = [" ".join(merge) for merge in tokenizer.merges]
        code = "const t = new Tokenizer(data.settings); return data.texts.map((text) => t.encode(text));"
        found = evaluate(["tokenizer"], code, {"settings": settings, "texts": texts}, tmp_path)
        expected = tokenizer(texts).tolist()
        assert [(text, ids) for text, ids in zip(texts, found)] == list(zip(texts, expected))


def test_words_know_where_their_tokens_are(tmp_path):
    tokenizer = Tokenizer.clip()
    texts = ["a snowcapped mountain", "unbelievably " * 40, "", "it's 1990!"]
    settings = {"contextLength": 77, "pad": "eos", "merges": [" ".join(merge) for merge in tokenizer.merges]}
    code = "const t = new Tokenizer(data.settings); return data.texts.map((text) => t.positions(text));"
    found = evaluate(["tokenizer"], code, {"settings": settings, "texts": texts}, tmp_path)
    for text, words in zip(texts, found):
        expected = [
            (word.text, list(word.positions)) for word in prompt_words(tokenizer, text, weighting=False)
        ]
        assert [(word["text"], list(range(word["first"], word["end"]))) for word in words] == expected


# --- noise -------------------------------------------------------------------------------------------------------


def test_a_seed_gives_torchs_numbers(tmp_path):
    cases = [(seed, count) for seed in (0, 42, 2**32 - 1) for count in (16, 1000, 2048)]
    code = """return data.map(([seed, count]) => {
        const generator = new TorchGenerator(seed);
        return [[...generator.randn(count)], [...generator.randn(count)]];
    });"""
    for (seed, count), found in zip(cases, evaluate(["noise"], code, cases, tmp_path)):
        generator = torch.Generator("cpu").manual_seed(seed)
        expected = [torch.randn(count, generator=generator).tolist() for _ in range(2)]
        assert np.abs(np.subtract(found, expected)).max() < 2e-6, (seed, count)


# --- samplers ----------------------------------------------------------------------------------------------------

SAMPLING = """
  return Promise.all(data.map(async (data) => {
    const denoise = (x, level) => {
        const uncond = x.map((v) => Math.sin(v)), cond = x.map((v) => 0.9 * v - 0.1 * Math.cos(level.t / 100));
        return x0AndEps(data.prediction, guide(uncond, cond, 3, data.phi), x, level);
    };
    const sampler = SAMPLERS[data.sampler], levels = samplerLevels(sampler, data.steps, data.alphaBar);
    let drawn = 0;
    const draw = () => Float32Array.from(data.noise[drawn++]);
    const found = { levels: levels.map(({ t, alpha, sigma }) => [t, alpha, sigma]), x: [] };
    const start = initialLatents(sampler, draw(), levels);
    for await (const step of sample(sampler, denoise, start, levels, draw)) found.x.push([...step.xPrev]);
    return found;
  }));
"""


def in_python(name, steps, alpha_bar, prediction, phi, noise):
    r"""The levels, and the latents after each step, with the same toy network as in `SAMPLING`."""

    def denoise(x, level):
        uncond, cond = x.sin(), 0.9 * x - 0.1 * np.cos(level.t / 100)
        guided = classifier_free_guidance(uncond, cond, 3.0)
        guided = rescale_guidance(guided, cond, phi) if phi else guided
        return x0_and_eps(prediction, guided, x, level)

    sampler, drawn = find_sampler(name), iter(noise[:, None])
    levels = sampler_levels(sampler, steps, alpha_bar)
    start = initial_latents(sampler, next(drawn), levels)
    steps_taken = sample(sampler.update, denoise, start, levels, lambda: next(drawn))
    return [(level.t, level.alpha, level.sigma) for level in levels], [
        s.x_prev[0].tolist() for s in steps_taken
    ]


CASES = [
    (20, NoiseConfig(), 0.0),
    (6, NoiseConfig(prediction="v"), 0.7),  # a grid with halves, which Python rounds to even numbers
    (2, NoiseConfig(prediction="x0"), 0.0),
    (1, NoiseConfig(prediction="v"), 0.0),
    (9, NoiseConfig(prediction="v", zero_snr=True), 0.0),
]


def test_each_step_of_both_samplers_is_the_same(tmp_path):
    data, expected = [], []
    for sampler in ("euler_ancestral", "dpmpp_2m"):
        for steps, config, phi in CASES:
            alpha_bar = make_alpha_bar(config)
            noise = torch.randn(steps + 1, 32, generator=torch.Generator().manual_seed(steps))
            case = {"sampler": sampler, "steps": steps, "alphaBar": alpha_bar.tolist(), "phi": phi}
            data.append(case | {"prediction": config.prediction, "noise": noise.tolist()})
            expected.append(in_python(sampler, steps, alpha_bar, config.prediction, phi, noise))
    for found, (levels, x) in zip(evaluate(["sampling"], SAMPLING, data, tmp_path), expected, strict=True):
        np.testing.assert_allclose(found["levels"], levels, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found["x"], x, rtol=0, atol=1e-5)
