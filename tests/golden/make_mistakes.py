r"""Makes `mistakes.json`: which layer of the golden models is the first that each porting mistake changes.

    python -m tests.golden.make_mistakes       (`make golden` does it after `make.py`)

Mistakes that change none of these small models (presets, samplers, words) are not in the file.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from torch import nn

from ldm.checkpoints.key_map import text_rows, unet_rows, vae_rows
from ldm.checkpoints.names import Row
from ldm.errors import LdmError
from ldm.files.read_write import atomic_path
from ldm.lab.museum.mistake import Mistake
from ldm.lab.museum.rooms import MISTAKES
from ldm.text.encoder import TextEncoder
from ldm.unet import embedding
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.golden.compare import filled, golden
from tests.golden.explain import MISTAKES_FILE, Difference, measure
from tests.mutants.live import made
from tests.text.test_golden import TEXT
from tests.unet.test_golden import SIZES as UNETS
from tests.vae.test_golden import SIZES as VAES

NETWORKS = ("nn/", "text/encoder.py", "text/transformer.py", "unet/", "vae/", "checkpoints/key_map.py")
Case = Callable[[], tuple[nn.Module, list[Row], Callable[[], object]]]


@contextmanager
def sinusoids_of(kind: str) -> Iterator[None]:
    r"""The reference's sinusoids, as in the golden tests of the U-Net."""
    known = golden("unet")[f"{kind}/sinusoids"]
    with mock.patch.object(embedding, "timestep_embedding", lambda t, width: known):
        yield


def text(output: str) -> tuple[nn.Module, list[Row], Callable[[], object]]:
    activation = "gelu" if output == "penultimate" else "quick_gelu"
    config, arrays = replace(TEXT, activation=activation, output=output), golden("text")
    model, rows = filled(TextEncoder(config), text_rows(config)), text_rows(config)
    return model, rows, lambda: model(arrays[f"{output}/ids"])


def vae(kind: str, name: str) -> tuple[nn.Module, list[Row], Callable[[], object]]:
    arrays, rows = golden("vae"), vae_rows(VAES[kind])
    model = filled(VAE(VAES[kind]), rows)
    if name == "latent":
        return model, rows, lambda: model.decode(arrays[f"{kind}/scale"] * arrays[f"{kind}/latent"])
    return model, rows, lambda: model.encode(arrays[f"{kind}/{name}/pixels"])


def unet(kind: str, name: str) -> tuple[nn.Module, list[Row], Callable[[], object]]:
    arrays, rows = golden("unet"), unet_rows(UNETS[kind], linear_projection=kind == "sd2")
    model = filled(UNet(UNETS[kind]), rows)

    def run() -> None:
        with sinusoids_of(kind):
            model(arrays[f"{kind}/{name}/x_t"], arrays["t"], arrays[f"{kind}/context"])

    return model, rows, run


CASES: dict[str, Case] = {
    **{f"text/{output}": lambda o=output: text(o) for output in ("last", "penultimate")},
    **{f"vae/{k}/{n}": lambda k=k, n=n: vae(k, n) for k in VAES for n in ("even", "odd", "faint", "latent")},
    **{f"unet/{k}/{n}": lambda k=k, n=n: unet(k, n) for k in UNETS for n in ("even", "odd", "faint")},
}


def effect(case: str) -> Difference | None:
    r"""What differs in a golden case, with the code as it is now: None, or a mistake has been made."""
    model, rows, run = CASES[case]()
    return measure(case, model, rows, run)


def effects(mistake: Mistake, cases: Iterable[str]) -> dict[str, tuple[str, float]]:
    r"""Those of the cases that a mistake changes: the first layer, and the relative size there."""
    found = {}
    with made(mistake):
        for case in cases:
            try:
                difference = effect(case)
            except (
                LdmError,
                RuntimeError,
            ):  # the model has other weights, or its shapes do not fit: no need to look
                continue
            if difference is not None:
                found[case] = (difference.layer, float(f"{difference.relative:.3g}"))
    return found


def main() -> None:
    table: dict[str, dict[str, tuple[str, float]]] = {case: {} for case in CASES}
    for mistake in MISTAKES:
        if mistake.file.startswith(NETWORKS):
            for case, first in effects(mistake, CASES).items():
                table[case][mistake.number] = first
    with atomic_path(MISTAKES_FILE) as path:
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{MISTAKES_FILE.name}: {sum(map(len, table.values()))} differences")


if __name__ == "__main__":
    main()
