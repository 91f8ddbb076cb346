r"""LoRA and its relatives: how strongly a change counts, along which axis, under which names; and learned words."""

from ldm.lab.museum.mistake import Mistake, Setting

WITH_LORA = Setting(prompt="a dog with glasses <lora:drift:1>", file="with_lora")
WITH_WORD = Setting(prompt="a <toy>", file="with_word")

MISTAKES = (
    Mistake(
        "32a",
        "a LoRA's alpha ignored",
        "adapters/lora.py",
        before="return 1.0 if alpha is None else alpha / rank",
        after="return 1.0",
        why=(
            "The formula of the paper's figure is W + BA; alpha is in the text below it, and in many files it equals "
            "the rank. In the others the change is too strong, which looks like a strength set too high."
        ),
        setting=WITH_LORA,
        seen=(
            (
                "https://github.com/leejet/stable-diffusion.cpp/issues/242",
                "a Lightning LoRA turned images into noise",
            ),
        ),
    ),
    Mistake(
        "32b",
        "a LoRA scaled by alpha instead of alpha over the rank",
        "adapters/lora.py",
        before="return 1.0 if alpha is None else alpha / rank",
        after="return 1.0 if alpha is None else alpha",
        why=(
            "alpha is called a scale wherever it is set. That it is divided by the rank, so that one learning rate "
            "suits all ranks, is in one line of the paper. With an alpha equal to the rank, as many files have it, the "
            "change is too strong by just that factor."
        ),
        setting=WITH_LORA,
        seen=(
            ("https://github.com/Blaizzy/mlx-vlm/issues/845", "adapters that counted eight times too much"),
            ("https://github.com/rasbt/LLMs-from-scratch/issues/821", "alpha instead of alpha / rank"),
        ),
    ),
    Mistake(
        "32c",
        "one alpha for all modules of a LoRA",
        "checkpoints/lora_file.py",
        before='float(factors["alpha"].double().item())',
        after='float(next(t for n, t in file.tensors.items() if n.endswith(".alpha")).double().item())',
        why=(
            "Nearly all files have one alpha and one rank throughout, so reading the first is enough until somebody "
            "trains the convolutions with others."
        ),
        setting=WITH_LORA,
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/14409",
                "modules scaled with the alpha that most others have",
            ),
        ),
    ),
    Mistake(
        "32d",
        "DoRA's norm taken of the weight alone",
        "adapters/dora.py",
        before="vector_norm(changed,",
        after="vector_norm(weight,",
        why=(
            "The norm of the old weight could be computed once and kept. But the change has a length of its own, which "
            "then comes on top: each row is as long as the magnitude says only where the change is small."
        ),
        setting=WITH_LORA,
        seen=(
            (
                "https://github.com/Comfy-Org/ComfyUI/pull/15458",
                "the branch for outputs divides by the norm of the weight, not of the sum",
            ),
        ),
    ),
    Mistake(
        "32e",
        "DoRA's norm along the other axis",
        "adapters/dora.py",
        before="axis = 0 if per_output else 1",
        after="axis = 1 if per_output else 0",
        why=(
            "The paper writes weights as [in, out] and says column; torch stores [out, in]. On square weights, as most "
            "of attention's are, nothing fails."
        ),
        setting=WITH_LORA,
        seen=(
            ("https://github.com/KohakuBlueleaf/LyCORIS/issues/216", "the norm along the wrong dimension"),
        ),
    ),
    Mistake(
        "32f",
        "the axes of a LoRA's core exchanged",
        "adapters/lora.py",
        before='"o p, p q h w, q i',
        after='"o p, q p h w, q i',
        why=(
            "The core is r x r x 3 x 3: both of its first axes have the length of the rank, so the shapes say nothing "
            "about which of them belongs to the outputs."
        ),
        setting=WITH_LORA,
    ),
    Mistake(
        "32g",
        "LoKr's alpha applied where both factors are whole",
        "adapters/lycoris.py",
        before="return inner[0] if inner else None",
        after='return inner[0] if inner else factors["lokr_w1"].shape[0]',
        why=(
            "Such a file still has an alpha, often an odd one, and a formula that divides it by a rank seems to want "
            "it. There is no rank to divide by; LyCORIS sets the scale to 1."
        ),
        setting=WITH_LORA,
    ),
    Mistake(
        "33a",
        "only the first vector of a learned word",
        "text/learned.py",
        before="ids[name] = tuple(range(begin, begin + count))",
        after="ids[name] = (begin,)",
        why=(
            "A word is one token in the paper's figures, and one row in the first files. Later ones have several rows, "
            "each of which takes a place of its own in the prompt."
        ),
        setting=WITH_WORD,
    ),
    Mistake(
        "33b",
        "a learned word found under one of its names alone",
        "text/learned.py",
        before="for name in dict.fromkeys(name.lower() for name in names):",
        after="for name in [names[0].lower()]:",
        why=(
            "One program goes by the file's name, another by the token in the file. Under the wrong one nothing is "
            "found and nothing is said: the name is read as plain words."
        ),
        setting=WITH_WORD,
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/3097",
                "the word in the prompt is not the one that was registered, and nothing happens",
            ),
        ),
    ),
    Mistake(
        "33c",
        "the pooled vector taken at a learned word",
        "text/encoder.py",
        before="known = ids.where(ids < self.token_embedding.num_embeddings, 0)",
        after="known = ids",
        why=(
            "CLIP finds the end of a text as its largest id, and learned words are given larger ones. Only Stable "
            "Diffusion XL reads the pooled vector, so with the others, as here, nothing shows."
        ),
        setting=WITH_WORD,
    ),
)
