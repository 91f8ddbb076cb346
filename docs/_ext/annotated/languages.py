r"""Two languages: pages under `docs/fr/` and notebooks `NN_name.fr` are French, all others English; so are the labels
in their diagrams.
"""

import re
from collections.abc import Callable

FRENCH_PAGES, FRENCH_NOTEBOOK = "docs/fr/", ".fr"
Say = Callable[[str], str]
TERM = re.compile(r"^(\S.*?)(?: \((.+)\))?$")  # of the French glossary: échantillonneur (sampler)

# Every label of the diagrams; tests/docs/test_languages.py finds those that are missing or no longer used.
FRENCH = {
    "prompt": "prompt",
    "empty prompt": "prompt vide",
    "“a dog with glasses”": "« un chien avec des lunettes »",
    "“”": "« »",
    "tokenizer": "tokenizer",
    "ids": "identifiants",
    "text encoder": "encodeur de texte",
    "context, for cross-attention": "contexte, pour l'attention croisée",
    "noise": "bruit",
    "drawn from a seed": "tiré d'une graine",
    "U-Net and sampler": "U-Net et échantillonneur",
    "what is the noise? take some of it away": "où est le bruit ? on en retire un peu",
    "t = T … 0: {sd1} steps, {tiny} for tiny": "t = T … 0 : {sd1} pas, {tiny} pour tiny",
    "VAE decoder": "décodeur du VAE",
    "image": "image",
    "upper numbers: Stable Diffusion 1": "nombres du haut : Stable Diffusion 1",
    "lower numbers: the tiny model": "nombres du bas : le modèle tiny",
    "shaded: a network": "en couleur : un réseau",
    "From prompt to image, with the shape of each tensor": "Du prompt à l'image, avec la forme de chaque tenseur",
    "Seven numbered stations from prompt to image": "Sept étapes numérotées, du prompt à l'image",
    "time embedding": "plongement du temps",
    "timesteps": "pas de temps",
    "guidance": "guidage",
    "sampler": "échantillonneur",
    "with c, and with ∅": "avec c, puis avec ∅",
    "again from 5, for the next t": "retour à 5, pour le t suivant",
    "after the last t: x_0": "après le dernier t : x_0",
    "begin": "début",
    "end": "fin",
    "end, up to {length}": "fin, jusqu'à {length}",
    "A prompt, cut into pieces, with their ids": "Un prompt découpé en morceaux, avec leurs identifiants",
    "{n} skips": "{n} connexions",
    "downsample": "réduction",
    "upsample": "agrandissement",
    "The U-Net of {name}: the shape of the features at every level": "Le U-Net de {name} : la forme à chaque niveau",
    "The VAE of {name}: the shape of the features at every level": "Le VAE de {name} : la forme à chaque niveau",
    "encoder": "encodeur",
    "decoder": "décodeur",
    "mean, log-variance": "moyenne, log-variance",
    "latent": "latent",
    "a sample × {scale}": "un tirage × {scale}",
    "÷ {scale}": "÷ {scale}",
    "The noise schedule: shares of latent and noise, and the signal-to-noise ratio": (
        "Le programme de bruit : parts du latent et du bruit, et rapport signal sur bruit"
    ),
    "√ᾱ: share of the latent": "√ᾱ : part du latent",
    "√(1−ᾱ): share of noise": "√(1−ᾱ) : part du bruit",
    "Stable Diffusion's x_t": "x_t de Stable Diffusion",
    "log₁₀ of signal to noise, ᾱ / (1 − ᾱ)": "log₁₀ du rapport signal sur bruit, ᾱ / (1 − ᾱ)",
    "Cross-attention with its shapes, and the weights of causal self-attention": (
        "L'attention croisée avec ses formes, et les poids d'une auto-attention causale"
    ),
    "cross-attention: positions read words": "attention croisée : les positions lisent les mots",
    "positions": "positions",
    "words": "mots",
    "each row sums to 1": "lignes de somme 1",
    "weights · V": "poids · V",
    "{heads} heads, each on its {each} of {all} channels": "{heads} têtes, chacune sur ses {each} canaux des {all}",
    "causal: a token sees itself and the past": "causal : soi-même et le passé",
    "looked at →": "regardé →",
    "looks ↓": "regarde ↓",
}

# Below an output, around the name of what made it.
MADE_BY = {
    "en": (" Made by ", " with the shipped model."),
    "fr": (" Obtenu par ", " avec le modèle tiny."),
}


def language(page: str) -> str:
    return "fr" if page.startswith(FRENCH_PAGES) or page.endswith(FRENCH_NOTEBOOK) else "en"


def teller(language: str) -> Say:
    """How a diagram says a label. Raises `KeyError` for one that has no French."""
    return FRENCH.__getitem__ if language == "fr" else str


def other_half(page: str, pages: set[str]) -> str | None:
    """The same page in the other language, if there is one."""
    if language(page) == "fr":
        other = page.replace(FRENCH_PAGES, "docs/", 1).removesuffix(FRENCH_NOTEBOOK)
    elif page.startswith("docs/"):
        other = page.replace("docs/", FRENCH_PAGES, 1)
    else:
        other = page + FRENCH_NOTEBOOK
    return other if other in pages else None


def french_terms(glossary: str) -> dict[str, tuple[str, list[str]]]:
    """By English term: the French one, and the lines that explain it."""
    found: dict[str, tuple[str, list[str]]] = {}
    explained: list[str] = []
    for line in glossary.splitlines():
        head = TERM.match(line)
        if head:
            explained = []
            found[head[2] or head[1]] = head[1], explained
        else:
            explained.append(line.strip())
    return found
