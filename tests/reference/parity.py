r"""How far our outputs are from those of diffusers and transformers, measured and printed as a table.

    make parity        (or: python -m tests.reference.parity, with diffusers and transformers installed)

Every model has random weights throughout, the same on both sides (see `tests/golden/weights.py`). The small
ones run in float64, where only a fault makes a difference; the full-sized ones in float32, as they are used.
"""

import gc
import math
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn

from ldm.checkpoints.key_map import text_extras, text_rows, unet_rows, vae_rows
from ldm.checkpoints.names import Row
from ldm.config import SD1, SD2_BASE, TINY, NoiseConfig
from ldm.diffusion.guidance import classifier_free_guidance
from ldm.diffusion.level import Level
from ldm.diffusion.predict import x0_and_eps
from ldm.diffusion.sample import sample
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.samplers.ddpm import ddpm
from ldm.diffusion.schedule import make_alpha_bar, make_betas
from ldm.diffusion.spacing import initial_latents, sampler_levels, spaced_timesteps
from ldm.text.clip import CLIP
from ldm.text.encoder import TextEncoder
from ldm.unet.unet import UNet
from ldm.vae.vae import VAE
from tests.diffusion.test_golden import ddim_like_the_reference, solve
from tests.diffusion.test_golden import run as run_ours
from tests.golden import make
from tests.golden.clip_rows import clip_rows, from_diffusers
from tests.golden.compare import difference
from tests.golden.explain import first_difference, told
from tests.golden.watching import watched
from tests.text.test_golden import IMAGE, TEXT
from tests.unet.test_golden import SIZES as UNETS
from tests.vae.test_golden import SIZES as VAES

Pairs = list[tuple[Tensor, Tensor]]  # ours and the reference's


@dataclass(frozen=True)
class Case:
    component: str
    kind: str
    dtype: str
    measure: Callable[[], Pairs]

    @property
    def tolerance(self) -> float:
        return {"float64": 1e-10, "float32": 1e-5}[self.dtype]

    def largest_difference(self) -> float:
        r"""In units of the largest value, over all outputs of the case."""
        with torch.no_grad():
            return max(difference(ours, theirs) for ours, theirs in self.measure())


# What watches the pairs of models that the cases build, while somebody wants to know why a case failed.
WATCHERS: list[Callable[[nn.Module, nn.Module, list[Row]], None]] = []


def as_ours(build: Callable[[], nn.Module], reference: nn.Module, rows: list[Row], extras=()) -> nn.Module:
    r"""Our model with the reference's weights: the same memory, not a copy."""
    with torch.device("meta"):
        model = build()
    model.load_state_dict(from_diffusers(reference.state_dict(), rows, extras), assign=True)
    for watch in WATCHERS:
        watch(model, reference, rows)
    return model.eval()


# --- small, in float64 -------------------------------------------------------------------------------------


def small_text(output: str) -> Pairs:
    r"""`penultimate`: our model lacks the last layer, whose weights are in the file."""
    activation = "gelu" if output == "penultimate" else "quick_gelu"
    config = replace(TEXT, activation=activation, output=output)
    theirs = make.randomise(make.text_encoder(activation).double(), "text_model.")
    ours = as_ours(lambda: TextEncoder(config), theirs, text_rows(config), text_extras(config))
    return [(ours(torch.tensor(make.IDS)), make.make_text()[f"{output}/states"])]


def small_clip(activation: str) -> Pairs:
    text, image = replace(TEXT, activation=activation), replace(IMAGE, activation=activation)
    theirs = make.randomise(make.clip(activation, make.TEXT_SIZES, make.IMAGE_SIZES).double())
    rows = clip_rows(replace(TINY, text=text, image=image, embedding_width=20))
    ours, made = as_ours(lambda: CLIP(text, image, 20), theirs, rows), make.make_clip()
    return [
        (ours.image(made["pixels"]), made[f"{activation}/pooled"]),
        (ours.embed_image(made["pixels"]), made[f"{activation}/image"]),
        (ours.embed_text(made["ids"]), made[f"{activation}/text"]),
    ]


def compare_vae(ours: VAE, theirs: nn.Module, pixels: Tensor, latent: Tensor) -> Pairs:
    r"""Means and decoded pictures; ours scales the latents itself."""
    gaussian, scale = theirs.encode(pixels).latent_dist, theirs.config.scaling_factor
    mean, logvar = ours.encode(pixels)
    return [
        (mean, scale * gaussian.mean),
        (logvar, gaussian.logvar + 2 * math.log(scale)),
        (ours.decode(scale * latent), theirs.decode(latent).sample),
    ]


def small_vae(kind: str) -> Pairs:
    theirs = make.randomise(make.vae(**make.VAE_SIZES[kind]).double())
    ours = as_ours(lambda: VAE(VAES[kind]), theirs, vae_rows(VAES[kind]))
    return compare_vae(ours, theirs, make.numbers(3, 2, 3, 27, 21), make.numbers(4, 2, 4, 5, 3))


def small_unet(kind: str) -> Pairs:
    theirs = make.randomise(make.unet(**make.UNET_SIZES[kind]).double())
    rows = unet_rows(UNETS[kind], linear_projection=kind == "sd2")
    ours, made = as_ours(lambda: UNet(UNETS[kind]), theirs, rows), make.make_unet()
    inputs = [(made[f"{kind}/{s}/x_t"], made["t"], made[f"{kind}/context"]) for s in ("even", "odd", "faint")]
    return [(ours(*each), theirs(*each).sample) for each in inputs]


def samplers(name: str) -> Pairs:
    r"""Each of 20, 30 and 50 steps, for all three predictions, spacings, and amounts of noise."""
    made, pairs = make.make_samplers(), []
    alpha_bar = make_alpha_bar(NoiseConfig()).double()
    for key, path in made.items():
        match key.split("/"):
            case ["ddim", kind, steps, spacing, eta] if name == "ddim":
                timesteps = [round(t) for t in spaced_timesteps(int(steps), 1000, spacing)]
                ours = ddim_like_the_reference(kind, timesteps, alpha_bar, float(eta))
            case ["ddpm", kind, steps, variance] if name == "ddpm":
                levels = sampler_levels(SAMPLERS["ddpm"], int(steps), alpha_bar)
                ours = run_ours(partial(ddpm, variance=variance), kind, levels)
            case _:
                continue
        pairs += zip(ours, path, strict=True)
    return pairs


def solvers(name: str) -> Pairs:
    r"""Each of 5, 20 and 30 steps, for eps and v (PLMS: eps)."""
    made, pairs = make.make_solvers(), []
    alpha_bar = make_alpha_bar(NoiseConfig()).double()
    for key, path in made.items():
        if key.startswith(f"{name}/") and key.endswith("/path"):
            _, kind, steps, _ = key.split("/")
            pairs += zip(solve(name, kind, int(steps), alpha_bar)[1], path, strict=True)
    return pairs


def whole_run(name: str) -> Pairs:
    r"""Twenty steps with the small U-Net and guidance 7.5: the latents of each, in the reference's form."""
    common = {"beta_schedule": "scaled_linear", **make.BETAS}
    ddim_options = {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
    scheduler = (
        make.DDIMScheduler(**ddim_options, **common) if name == "ddim" else make.SOLVERS[name](**common)
    )
    theirs = make.randomise(make.unet(**make.UNET_SIZES["sd1"]).double())
    ours = as_ours(lambda: UNet(UNETS["sd1"]), theirs, unet_rows(UNETS["sd1"]))
    context = make.numbers(5, 2, 6, make.UNET_SIZES["sd1"]["context"])  # the negative prompt, the prompt
    start = make.numbers(6, 1, 4, 8, 12)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        uncond, cond = theirs(torch.cat([x, x]), t, context).sample.chunk(2)
        return uncond + 7.5 * (cond - uncond)

    def denoise(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        uncond, cond = ours(torch.cat([x, x]), torch.tensor(level.t), context).chunk(2)
        return x0_and_eps("eps", classifier_free_guidance(uncond, cond, 7.5), x, level)

    sampler = SAMPLERS[name]
    levels = sampler_levels(sampler, 20, make_alpha_bar(NoiseConfig()).double())
    begun = initial_latents(sampler, start, levels)
    latents: list[Tensor] = []

    def noise(i: int) -> Tensor:
        return make.numbers(2000 + i, *start.shape)

    for step in sample(sampler.update, denoise, begun, levels, lambda *_: noise(len(latents))):
        latents.append(step.x_prev)
    if not sampler.unit_start:
        latents = [x / level.alpha for x, level in zip(latents, levels[1:], strict=True)]
    return list(zip(latents, make.solve(scheduler, 20, guided, start, noise)["path"], strict=True))


def schedule(name: str) -> Pairs:
    config, made = NoiseConfig(schedule=name), make.make_schedule()
    betas, alpha_bar = made[f"{name}/betas"], made[f"{name}/alpha_bar"]
    return [(make_betas(config), betas), (make_alpha_bar(config), alpha_bar)]


# --- full size, in float32 ---------------------------------------------------------------------------------

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}
VOCABULARY = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406}
UNET = {"channels": (320, 640, 1280, 1280), "depths": (1, 1, 1, 0), "blocks": 2, "groups": 32}
UNET_KINDS = {
    "sd1": {"heads": (8, 8, 8, 8), "context": 768, "linear": False},
    "sd2": {"heads": (5, 10, 20, 20), "context": 1024, "linear": True},
}


def full_text(kind: str) -> Pairs:
    config, activation, sizes = {
        "sd1": (SD1.text, "quick_gelu", CLIP_L),
        "sd2": (SD2_BASE.text, "gelu", CLIP_H),
    }[kind]
    theirs = make.randomise(make.text_encoder(activation, **sizes, **VOCABULARY), "text_model.")
    ours = as_ours(lambda: TextEncoder(config), theirs, text_rows(config), text_extras(config))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 49406, (2, 77), generator=generator)
    return [(ours(ids), theirs(ids).last_hidden_state)]


def full_clip() -> Pairs:
    r"""The whole of CLIP ViT-L/14, whose text half is Stable Diffusion 1's."""
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
    }
    vision |= {"image_size": 224, "patch_size": 14, "projection_dim": 768}
    theirs = make.randomise(make.clip("quick_gelu", CLIP_L | VOCABULARY, vision))
    assert SD1.image is not None
    ours = as_ours(lambda: CLIP(SD1.text, SD1.image, 768), theirs, clip_rows(SD1))
    ids = torch.randint(0, 49406, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 40] = 49407  # the end mark, where the text is read
    pixels = make.numbers(1, 2, 3, 224, 224).float()
    out = theirs(input_ids=ids, pixel_values=pixels)
    return [(ours.embed_image(pixels), out.image_embeds), (ours.embed_text(ids), out.text_embeds)]


def full_vae() -> Pairs:
    sizes = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "groups": 32}
    theirs = make.randomise(make.vae(**sizes))
    ours = as_ours(lambda: VAE(SD1.vae), theirs, vae_rows(SD1.vae))
    pixels, latent = make.numbers(3, 1, 3, 256, 192), make.numbers(4, 1, 4, 32, 24)
    return compare_vae(ours, theirs, pixels.float(), latent.float())


def full_unet(kind: str) -> Pairs:
    config = {"sd1": SD1.unet, "sd2": SD2_BASE.unet}[kind]
    theirs = make.randomise(make.unet(**UNET_KINDS[kind], **UNET))
    ours = as_ours(lambda: UNet(config), theirs, unet_rows(config))
    x_t, t = make.numbers(6, 1, 4, 32, 24).float(), torch.tensor([721])
    context = make.numbers(5, 1, 77, UNET_KINDS[kind]["context"]).float()
    return [(ours(x_t, t, context), theirs(x_t, t, context).sample)]


F64, F32 = "float64", "float32"
SOLVERS = [name for name in SAMPLERS if name not in ("ddim", "ddpm", "euler_ancestral_karras")]
CASES = [
    Case("text encoder", "small, last layer", F64, lambda: small_text("last")),
    Case("text encoder", "small, layer before", F64, lambda: small_text("penultimate")),
    Case("CLIP", "small, quick_gelu", F64, lambda: small_clip("quick_gelu")),
    Case("CLIP", "small, gelu", F64, lambda: small_clip("gelu")),
    *(Case("VAE", f"small, {k} kind", F64, lambda k=k: small_vae(k)) for k in VAES),
    *(Case("U-Net", f"small, {k} kind", F64, lambda k=k: small_unet(k)) for k in UNETS),
    *(Case("sampler", f"{s}, each step", F64, lambda s=s: samplers(s)) for s in ("ddim", "ddpm")),
    *(Case("sampler", f"{s}, each step", F64, lambda s=s: solvers(s)) for s in SOLVERS),
    *(
        Case("whole run", f"{s}, 20 steps", F64, lambda s=s: whole_run(s))
        for s in ("ddim", "plms", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "unipc", "lcm", "tcd")
    ),
    *(Case("noise schedule", s, F32, lambda s=s: schedule(s)) for s in make.SCHEDULES),
    *(Case("text encoder", f"full size, {k}", F32, lambda k=k: full_text(k)) for k in ("sd1", "sd2")),
    Case("CLIP", "full size, ViT-L/14", F32, full_clip),
    Case("VAE", "full size", F32, full_vae),
    *(Case("U-Net", f"full size, {k}", F32, lambda k=k: full_unet(k)) for k in ("sd1", "sd2")),
]


def explain(case: Case) -> str:
    r"""Run a case again, and say which layer of its models is the first that differs from the reference's.

    Only what both sides run while the case is measured can be compared; the samplers have no layers.
    """
    with torch.no_grad(), ExitStack() as stack:
        pairs = []

        def watch(ours: nn.Module, theirs: nn.Module, rows: list[Row]) -> None:
            pairs.append((stack.enter_context(watched(ours)), stack.enter_context(watched(theirs)), rows))

        with mock.patch(f"{__name__}.WATCHERS", [watch]):
            case.measure()
        for ours, theirs, rows in pairs:
            names = {row.diffusers.rpartition(".")[0] for row in rows}
            found = {
                next((p + n for p in ("", "text_model.") if p + n in names), n): x for n, x in theirs.items()
            }
            if found:
                return told(first_difference(ours, found, rows, tolerance=case.tolerance))
    return "No layers of this case can be compared."


def main(wanted: str = "") -> None:
    r"""Print the page, or with a word such as "small" the rows whose kind has it."""
    print("# Parity with the reference libraries\n")
    print(
        "Printed by `make parity` (`python -m tests.reference.parity`), with the same random\n"
        "weights on both sides. A difference is the largest one, in units of the reference's largest value; 0 means\n"
        "identical to the last bit: the same kernels, called in the same order.\n"
    )
    print(f"{make.VERSIONS}; {platform.machine()}, threads: {torch.get_num_threads()}.\n")
    print("| component | kind | dtype | largest difference | tolerance |")
    print("|---|---|---|---|---|")
    for case in (case for case in CASES if wanted in case.kind):
        figures = f"{case.largest_difference():.1e} | {case.tolerance:.0e}"
        print(f"| {case.component} | {case.kind} | {case.dtype} | {figures} |", flush=True)
        gc.collect()  # a full-sized model may be a few gigabytes


if __name__ == "__main__":
    main(*sys.argv[1:])
