"""`ldm generate`: its options, which of them go together, and which module does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm.cli.arguments import (
    DEVICE,
    Commands,
    add_command,
    add_compile,
    add_loading,
    add_model,
    add_sampling,
    check_compiler,
    noise_interval,
    times,
    width_and_height,
)
from ldm.cli.output import check_folder, check_place, output_folder
from ldm.files.leftovers import sweep_folder

# What --from reads from the image, and so does not accept as an option. (--steps, --size, --batch, --long-prompt,
# --window and --compile may repeat what the image records: large values are not computed unasked.)
RECORDED = (
    "prompt", "negative", "sampler", "spacing", "guidance", "seed", "strength", "keep_pixels",
    "dtype", "no_weighting", "clip_skip", "weights", "prediction", "tile",
    "original_size", "crop", "target_size", "aesthetic_score", "empty_negative",
    "control_strength", "control_start", "control_end", "control_prepare", "control_guess",
    "hires", "hires_mode", "hires_strength", "switch_at", "guidance_interval", "reuse", "int8",
)  # fmt: skip


SHOWN = "give what `ldm info PNG` shows instead of --from"
CONTROLLED = ("control_strength", "control_start", "control_end", "control_prepare")  # of each ControlNet

DTYPES = ("float32", "bfloat16", "float16", "float64")


def generate_options(commands: Commands) -> None:
    p = add_command(commands, "generate", generate, "generate images from a prompt")
    p.add_argument("prompt", nargs="?", help='what to generate, e.g. "a dog with glasses"')
    p.add_argument("--negative", metavar="T", help="what to avoid")
    brackets = "read brackets as text; otherwise (word:1.3) counts more and [word] less"
    p.add_argument("--no-weighting", action="store_true", default=None, help=brackets)
    long = "cut off what does not fit (the default), or read the prompt in chunks"
    p.add_argument("--long-prompt", choices=("truncate", "chunk"), help=long)
    skip = "take the context N - 1 layers earlier in the text encoder, as in A1111 (default: 1; 2 is diffusers' 1)"
    p.add_argument("--clip-skip", type=int, metavar="N", help=skip)
    add_model(p, default=None)
    add_sampling(p)
    size = "in pixels, e.g. 192x128 (default: the model's)"
    p.add_argument("--size", type=width_and_height, metavar="WxH", help=size)
    p.add_argument(
        "--batch", type=int, metavar="N", help="number of images, with seeds SEED, SEED+1, ... (default: 1)"
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="a .png file, which is replaced, or a folder (default: outputs/)",
    )
    p.add_argument("--trace", type=Path, metavar="DIR", help="also write a report on how the image formed")
    preview = "also write what each step estimates the image to be, as DIR/SEED-STEP.png"
    p.add_argument("--preview", type=Path, metavar="DIR", help=preview)
    tiny = (
        "decode previews with this VAE: a tiny one (TAESD) is much faster than the model's own, the default"
    )
    p.add_argument("--preview-vae", metavar="FILE", help=tiny)
    lora = (
        "merge this LoRA into the model, with strength S (1); once for each. FILE may also be the name of one beside "
        "the model, as in <lora:NAME:S> in a prompt. One for few steps, such as LCM's, also changes the default "
        "sampler, steps and guidance"
    )
    p.add_argument("--lora", action="append", metavar="FILE[:S]", help=lora)
    embedding = (
        "a learned word (textual inversion), once for each: in the prompt it is the file's name, the token in it or "
        "WORD, with `embedding:` before it or without. FILE may also be the name of one beside the model"
    )
    p.add_argument("--embedding", action="append", metavar="FILE[=WORD]", help=embedding)
    tile = "encode and decode in tiles, which saves memory (default: on a CPU, from 1024x1024 pixels on)"
    p.add_argument("--tile", action=argparse.BooleanOptionalAction, default=None, help=tile)
    add_compile(p, "worthwhile for many images; for Stable Diffusion on a CPU from about 300 steps on")
    p.add_argument("--device", metavar="D", help=DEVICE)
    p.add_argument("--dtype", choices=DTYPES, help="dtype to compute in (default: by model and device)")
    int8 = "multiply 8-bit integers in most layers of the U-Net: faster on a CPU, at some cost in quality"
    p.add_argument("--int8", action="store_true", default=None, help=int8)
    add_loading(p)
    p.add_argument_group("many prompts").add_argument(
        "--prompts",
        type=Path,
        metavar="TXT",
        help="generate each line of this file (--batch images of each, with seeds that count on through the list from "
        "--seed, by default 0) into the folder --out. The same command again continues an interrupted run; "
        "torchrun --nproc-per-node N -m ldm generate ... shares the list between N processes",
    )
    add_control(p)
    add_large(p)
    add_savings(p)
    add_xl(p)
    start = p.add_argument_group("starting from an image")
    start.add_argument("--init", type=Path, metavar="IMG", help="the image to change")
    strength = "how much to change it, above 0 and up to 1 (default: 0.75, or 1 with a mask)"
    start.add_argument("--strength", type=float, metavar="S", help=strength)
    start.add_argument("--mask", type=Path, metavar="IMG", help="change only where this image is white")
    start.add_argument(
        "--keep-pixels", action="store_true", default=None, help="elsewhere, keep the exact pixels of --init"
    )
    p.add_argument_group("the same image again").add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PNG",
        help="generate this image again, as its record says. Models are taken from weights/, other files from the "
        "image's folder, and only if their bytes are the recorded ones; for any other, say where it is: --model, "
        "--init, --mask, --config, --vae, --unet, --refiner, and for each of its own --lora, --embedding, --control "
        "and --control-image. A lot of work has to be confirmed: repeat --steps, --size, --batch, --long-prompt, "
        "--window or --compile",
    )


def add_control(parser: argparse.ArgumentParser) -> None:
    """ControlNets and their images (`ldm/adapters/control.py`). Each option once, or once for each --control."""
    control = parser.add_argument_group("ControlNet")
    file = "steer the model with this ControlNet, a file or a folder of diffusers; once for each"
    control.add_argument("--control", action="append", type=Path, metavar="FILE", help=file)
    image = "the image that it reads, such as white edges on black; `ldm inspect FILE` says which it wants"
    control.add_argument("--control-image", action="append", type=Path, metavar="IMG", help=image)
    prepare = (
        "first make that image from this one: canny (edges), scribble (from dark strokes on white), tile (the image "
        "itself), inpaint (without what --mask lets change)"
    )
    control.add_argument("--control-prepare", action="append", metavar="KIND", help=prepare)
    strength = "how strongly it acts (default: 1); like the others here, once, or once for each --control"
    control.add_argument("--control-strength", action="append", type=float, metavar="S", help=strength)
    start, end = (f"let it act {when} of the steps" for when in ("from this fraction", "up to this fraction"))
    control.add_argument(
        "--control-start", action="append", type=float, metavar="F", help=f"{start} on (default: 0)"
    )
    control.add_argument(
        "--control-end", action="append", type=float, metavar="F", help=f"{end} (default: 1)"
    )
    guess = "follow the image even where the prompt says nothing; with a guidance of 3 to 5"
    control.add_argument("--control-guess", action="store_true", default=None, help=guess)


def add_large(parser: argparse.ArgumentParser) -> None:
    """Images larger than the model was trained at (`ldm/hires.py`, `ldm/windows.py`)."""
    large = parser.add_argument_group("large images")
    hires = "after generating at --size, enlarge the image so many times, and add detail in a second pass"
    large.add_argument("--hires", type=times, metavar="2x", help=hires)
    mode = "enlarge decoded pixels (the default), or the latent, which changes more"
    large.add_argument("--hires-mode", choices=("pixels", "latent"), help=mode)
    strength = "how much the second pass may change, between 0 and 1 (default: 0.4, or 0.6 for latents)"
    large.add_argument("--hires-strength", type=float, metavar="S", help=strength)
    window = "let the U-Net work in overlapping windows of so many pixels (with --hires: in the second pass)"
    large.add_argument("--window", type=int, metavar="N", help=window)


def add_savings(parser: argparse.ArgumentParser) -> None:
    """Less work at some cost in quality (`guidance_at` in `ldm/diffusion/guidance.py`, `ldm/unet/deep_cache.py`)."""
    savings = parser.add_argument_group("fewer evaluations of the U-Net")
    interval = "guide only between these noise levels (sigma), such as 0.28:5.42; elsewhere a step costs half"
    savings.add_argument("--guidance-interval", type=noise_interval, metavar="LOW:HIGH", help=interval)
    reuse = (
        "evaluate the whole U-Net only once in N times, and reuse its deep features in between (DeepCache)"
    )
    savings.add_argument("--reuse", type=int, metavar="N", help=reuse)


def add_xl(parser: argparse.ArgumentParser) -> None:
    """What Stable Diffusion XL is told about an image (`ldm/diffusion/micro_conditioning.py`), and its refiner."""
    xl = parser.add_argument_group("Stable Diffusion XL")
    original = (
        "the size to imitate of a training image before it was resized; a small one blurs (default: the size)"
    )
    xl.add_argument("--original-size", type=width_and_height, metavar="WxH", help=original)
    crop = (
        "the pixels to imitate as cut off at the left and at the top (default: 0x0, an object in the middle)"
    )
    xl.add_argument("--crop", type=width_and_height, metavar="LEFTxTOP", help=crop)
    target = "the size that it was resized and cropped to (default: the size)"
    xl.add_argument("--target-size", type=width_and_height, metavar="WxH", help=target)
    score = "how much people like such an image, 0 to 10; the refiner is told it (default: 6)"
    xl.add_argument("--aesthetic-score", type=float, metavar="S", help=score)
    refiner = "let this second model finish the sampling, as Stable Diffusion XL's refiner does"
    xl.add_argument("--refiner", metavar="MODEL", help=refiner)
    at = "the share of the sampling after which it takes over (default: 0.8)"
    xl.add_argument("--switch-at", type=float, metavar="F", help=at)
    empty = "whether an empty negative prompt is read like any other, or stands for zeros (default: the model's way)"
    xl.add_argument("--empty-negative", choices=("encoded", "zero"), help=empty)


def generate(options: argparse.Namespace) -> None:
    check_usage(options)
    check_place(options.out)
    check_compiler(options)
    for folder in (options.trace, options.preview):
        if folder is not None:
            check_folder(folder, folder)
    for folder in filter(None, (output_folder(options.out), options.preview)):
        sweep_folder(folder)
    if options.source is not None:
        from ldm.cli.replay import replay

        replay(options)
    else:
        from ldm.cli.new import generate_list, generate_new

        generate_new(options) if options.prompts is None else generate_list(options)


def check_usage(options: argparse.Namespace) -> None:
    """End the program with exit code 2 if options do not go together."""

    def refuse(names: tuple[str, ...], why: str, instead: str) -> None:
        for name in names:
            if getattr(options, name) is not None:
                option = "the PROMPT" if name == "prompt" else f"--{name.replace('_', '-')}"
                options.wrong_usage(f"{why}: leave out {option}, or {instead}")

    if options.trace is not None and options.compile:
        options.wrong_usage("--trace looks into the uncompiled U-Net: leave out --compile")
    if options.int8 and options.compile:
        options.wrong_usage("--int8 multiplies by itself: leave out --compile")
    if options.preview is None:
        refuse(("preview_vae",), "there are no previews", "give --preview DIR too")
    if options.source is not None:
        return refuse(("prompts", *RECORDED), "--from repeats what the image records", SHOWN)
    if options.prompts is not None:
        refuse(("prompt", "trace", "preview"), "--prompts generates a list", "--prompts")
        if options.seed == -1:
            options.wrong_usage("--prompts cannot continue later with a random seed: give another --seed")
        if options.out is not None and options.out.suffix.lower() == ".png":
            options.wrong_usage(f"--prompts generates many images: give a folder, not --out {options.out}")
    elif options.prompt is None:
        options.wrong_usage("expected a PROMPT, or --prompts TXT, or --from PNG")
    count, one_each = len(options.control or ()), "give --control FILE too"
    if not count:
        refuse((*CONTROLLED, "control_image", "control_guess"), "there is no ControlNet", one_each)
    elif len(options.control_image or ()) != count:
        images = len(options.control_image or ())
        options.wrong_usage(f"{count} of --control and {images} of --control-image: give an image for each")
    for name in CONTROLLED:
        if len(getattr(options, name) or ()) not in (0, 1, count):
            options.wrong_usage(f"--{name.replace('_', '-')}: give it once, or once for each --control")
    if options.hires is None:
        refuse(("hires_mode", "hires_strength"), "nothing is enlarged", "give --hires 2x too")
    else:
        refuse(("init", "mask", "strength", "trace"), "--hires begins with an image of its own", "--hires")
    if options.window is not None:
        refuse(("trace",), "--trace shows one evaluation of the U-Net a step", "--window")
        refuse(("reuse",), "features of one window are not another's", "--window")
    for name, option in (("guidance_interval", "--guidance-interval"), ("reuse", "--reuse")):
        if getattr(options, name) is not None:
            refuse(("trace",), "--trace shows the whole U-Net with guidance at each step", option)
    if options.refiner is None:
        refuse(("switch_at",), "there is no refiner", "give --refiner MODEL too")
    else:
        refuse(("init", "hires"), "--refiner finishes what begins as noise", "--refiner")
        refuse(("trace",), "--trace shows one model", "--refiner")
        refuse(("preview",), "--preview shows one model", "--refiner")
    if options.init is None:
        refuse(("strength", "mask"), "there is no image to start from", "give --init IMG too")
    if options.mask is None:
        refuse(("keep_pixels",), "there is no mask to say what to keep", "give --mask IMG too")
    if options.trace is not None and (options.batch or 1) != 1:
        options.wrong_usage(f"--trace shows one image: leave out --batch {options.batch}")
