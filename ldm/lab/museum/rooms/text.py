r"""The text: padding, layers, activations, and what a tokenizer does to a prompt."""

from ldm.lab.museum.mistake import Mistake, Setting

LONG = (
    "a serene lake surrounded by snow-capped mountains at sunrise, with a small boat on the water, tall pines on the "
    "shore and a red balloon high up in the evening sky"
)

MISTAKES = (
    Mistake(
        "3a",
        "SD1's prompt padded with zeros",
        "config.py",
        before='layers=12, heads=12, activation="quick_gelu")',
        after='layers=12, heads=12, activation="quick_gelu", pad="zero")',
        why=(
            "OpenAI's own `clip.tokenize` pads with zeros. Stable Diffusion 1 was trained with transformers' "
            "tokenizer, which repeats the end mark. The U-Net reads the states of the padding, too, and has "
            "learned to rely on them."
        ),
        standin="other_padding",
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/2201",
                "the tokenizers of version 1, version 2 and OpenCLIP pad differently",
            ),
        ),
    ),
    Mistake(
        "3b",
        "the prompt's padding set to zero",
        "text/encoder.py",
        before="            context = self.norm_out(context)",
        after="            context = self.norm_out(context) * (ids != ids[:, -1:]).unsqueeze(-1)",
        why=(
            "In most transformers, padding is masked, and setting its states to zero looks like good hygiene. "
            "Stable Diffusion's U-Net attends to all 77 states and was trained with the padding as it comes."
        ),
        seen=(
            (
                "https://github.com/bghira/SimpleTuner/issues/1726",
                "why not zero the padding? Because the model attends to it",
            ),
            ("https://github.com/openai/CLIP/issues/183", "padding that nothing masks"),
        ),
    ),
    Mistake(
        "3c",
        "SD2's prompt padded with end marks",
        "config.py",
        before='activation="gelu", output="penultimate", pad="zero"',
        after='activation="gelu", output="penultimate"',
        why=(
            "Stable Diffusion 2 reads prompts with open_clip's tokenizer, which pads with 0. Code that was "
            "written for version 1 repeats the end mark, and nothing complains."
        ),
        setting=Setting(prompt="a serene lake surrounded by snow-capped mountains at sunrise"),
        standin="other_padding",
        seen=(
            (
                "https://github.com/Stability-AI/stablediffusion/issues/28",
                "zeros after the text, where version 1 had end marks",
            ),
            (
                "https://github.com/huggingface/diffusers/pull/2832",
                "a padding token written into the code, wrong for version 2",
            ),
        ),
    ),
    Mistake(
        "4a",
        "the text encoder without its final norm",
        "text/encoder.py",
        before='        if self.output != "hidden":',
        after="        if False:",
        why=(
            'Taking "the hidden states of the last layer" from a library often means taking them before the final '
            "norm: `hidden_states[-1]` is not `last_hidden_state`. The shapes are equal, and nothing fails."
        ),
        seen=(
            (
                "https://github.com/huggingface/transformers/pull/26142",
                "the last entry of `hidden_states` is not `last_hidden_state`, so the documentation says it now",
            ),
        ),
    ),
    Mistake(
        "4b",
        "SD2's text read after the last layer",
        "config.py",
        before='return self.layers - (self.output == "penultimate")',
        after="return self.layers",
        why=(
            "Stable Diffusion 2 reads the text one layer before the last. Code for version 1 reads after the "
            "last, and a file that still has that layer lets it."
        ),
        standin="other_layer",
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/1863",
                "is the wrong layer of CLIP used for version 2?",
            ),
        ),
    ),
    Mistake(
        "4c",
        "the unused last layer taken off a file that has not got it",
        "checkpoints/infer_sizes.py",
        before='layers=_with_unread_layer(part, width, layers, layers_given) if version == "sd2" else layers',
        after="layers=layers",
        why=(
            "Some files of Stable Diffusion 2 hold 24 layers of the text encoder, others only the 23 that are "
            'read. Skipping "the last one" in a file that has already lost it reads one layer too early.'
        ),
        setting=Setting(prompt="a serene lake surrounded by snow-capped mountains at sunrise"),
        standin="other_layer",
    ),
    Mistake(
        "4d",
        "the text encoder's final norm taken twice",
        "text/encoder.py",
        before="            context = self.norm_out(context)",
        after="            context = self.norm_out(self.norm_out(context))",
        why=(
            "A norm hidden in the encoder and another in the pipeline: each looks right where it stands. "
            "Normalising twice changes little when the norm's weights are near 1, so it survives a glance at the "
            "image."
        ),
    ),
    Mistake(
        "9a",
        "CLIP-L with the exact GELU",
        "config.py",
        before='CLIP_L_TEXT = TextConfig(49408, 77, width=768, layers=12, heads=12, activation="quick_gelu")',
        after='CLIP_L_TEXT = TextConfig(49408, 77, width=768, layers=12, heads=12, activation="gelu")',
        why=(
            "OpenAI trained CLIP with x * sigmoid(1.702 x), a cheap stand-in for GELU. A library's default is the "
            "exact one. The curves lie within 0.02 of one another, and twelve layers add that up."
        ),
        standin="other_activation",
        seen=(
            (
                "https://github.com/huggingface/pytorch-image-models/issues/1754",
                "other features than OpenAI's, until the activation is replaced",
            ),
            (
                "https://github.com/mlfoundations/open_clip/issues/771",
                "evaluations of fine-tuned models that used the other activation",
            ),
        ),
    ),
    Mistake(
        "9b",
        "quick GELU's factor rounded to 1.7",
        "text/transformer.py",
        before="torch.sigmoid(1.702 * x)",
        after="torch.sigmoid(1.7 * x)",
        why=(
            "1.702 is the factor that brings the sigmoid closest to GELU, and it is often rounded. The difference "
            "is so small that only a comparison in double precision shows it for certain."
        ),
    ),
    Mistake(
        "9c",
        "OpenCLIP-H with quick GELU",
        "config.py",
        before='activation="gelu", output="penultimate"',
        after='activation="quick_gelu", output="penultimate"',
        why=(
            "OpenCLIP trained its models with the exact GELU, OpenAI with the quick one. A port that reads both "
            "takes the activation from whichever was written first."
        ),
        setting=Setting(prompt="a serene lake surrounded by snow-capped mountains at sunrise"),
        standin="other_activation",
        seen=(
            (
                "https://github.com/mlfoundations/open_clip/issues/441",
                "the same weights under both activations",
            ),
        ),
    ),
    Mistake(
        "17b",
        "LayerNorm's eps 1e-6 in the text encoder",
        "text/encoder.py",
        before="nn.LayerNorm(config.width, eps=1e-5)",
        after="nn.LayerNorm(config.width, eps=1e-6)",
        why=(
            "transformers' CLIP says `layer_norm_eps=1e-5`; other text encoders, such as BERT, have 1e-12, others "
            "1e-6. Copied from one config to another it makes no error."
        ),
        seen=(
            (
                "https://github.com/mindspore-lab/mindone/pull/225",
                "a default of 1e-7; with 1e-5 the difference fell from 4.8 % to 0.6 %",
            ),
        ),
    ),
    Mistake(
        "19a",
        "runs of digits as one word",
        "text/pretokenize.py",
        before=r"\p{L}+|\p{N}|",
        after=r"\p{L}+|\p{N}+|",
        why=(
            "Most tokenizers take a run of digits as one word; GPT-2's pattern does, and CLIP's was copied from "
            "it with one change: each digit stands alone."
        ),
        setting=Setting(prompt="1 dog with glasses, 2024"),
    ),
    Mistake(
        "19b",
        "accents not composed (transformers' cleaning)",
        "text/pretokenize.py",
        before='unicodedata.normalize("NFC", _without_surrogates(text))',
        after="_without_surrogates(text)",
        why=(
            "An accent may be one character or two: a letter and a combining mark. Both look alike. A tokenizer "
            "that does not compose them reads other bytes, and with them other words."
        ),
        setting=Setting(prompt="fore\u0302t sereine avec cascade au lever du soleil", clean="hf"),
    ),
    Mistake(
        "19c",
        "eos lost when a prompt is cut",
        "text/tokenizer.py",
        before="[self.bos, *self.encode(text)[: self.context_length - 2], self.eos]",
        after="[self.bos, *self.encode(text), self.eos][: self.context_length]",
        why=(
            "Cutting the finished list of ids to 77 is the obvious way to shorten a prompt. It cuts off the end "
            "mark, whose state is the one that CLIP compares with images."
        ),
        setting=Setting(
            show="tokens",
            prompt=LONG,
        ),
        seen=(
            ("https://github.com/facebookresearch/SLIP/issues/18", "cut after the marks were added"),
            ("https://github.com/facebookresearch/ImageBind/issues/82", "no end mark in long sequences"),
        ),
    ),
    Mistake(
        "19d",
        "HTML entities opened once",
        "text/pretokenize.py",
        before="html.unescape(html.unescape(text))",
        after="html.unescape(text)",
        why=(
            "Captions from the web are often escaped twice, so OpenAI's code unescapes twice. Once looks like "
            "enough, and mostly is: ftfy unescapes, too, unless there is a < in the text."
        ),
        setting=Setting(prompt="for&amp;ecirc;t sereine avec cascade au lever du soleil <3"),
    ),
    Mistake(
        "19e",
        "broken text not mended (no ftfy)",
        "text/pretokenize.py",
        before="ftfy.fix_text(_without_surrogates(text))",
        after="_without_surrogates(text)",
        why=(
            "OpenAI's code repairs broken encodings with ftfy before anything else; transformers does so only "
            "where that package is installed, and says so in a warning that nobody reads."
        ),
        setting=Setting(prompt="forÃªt sereine avec cascade au lever du soleil"),
        seen=(
            (
                "https://github.com/huggingface/transformers/issues/19118",
                'other ids for "résumé" with and without ftfy',
            ),
        ),
    ),
)
