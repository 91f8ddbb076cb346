r"""Checkpoints: what is missing, what is left over, what is rounded, and what is refused."""

from ldm.lab.museum.mistake import Mistake, Setting

MISTAKES = (
    Mistake(
        "20a",
        "missing keys forgiven",
        "checkpoints/folder.py",
        before="    if found:\n        raise LdmError(",
        after="    if False:\n        raise LdmError(",
        why=(
            "`strict=False` makes an error about missing keys go away. It is the first thing that people try, and "
            "what was missing stays as it was before: empty, or random."
        ),
        setting=Setting(show="similarity", file="incomplete_clip"),
        seen=(
            (
                "https://github.com/d8ahazard/sd_dreambooth_extension/issues/1290",
                "`strict=False` as the remedy for renamed keys",
            ),
        ),
    ),
    Mistake(
        "20b",
        "tensors that a checkpoint lacks passed over",
        "checkpoints/validate.py",
        before='"missing": found.missing, ',
        after="",
        why=(
            "A list of missing keys that is logged and not raised leaves a layer without weights. Where the layer "
            "is random rather than empty, images come out all the same."
        ),
        setting=Setting(file="incomplete"),
        seen=(
            (
                "https://github.com/Haoming02/sd-webui-forge-classic/issues/597",
                "black images: names were not translated, and weights stayed uninitialised",
            ),
        ),
    ),
    Mistake(
        "20c",
        "tensors that would change the numbers ignored like others",
        "checkpoints/validate.py",
        before="    if found.altering:",
        after="    if False:",
        why=(
            "Files carry many tensors that nobody needs, so unknown ones are skipped. A scale beside a quantised "
            "weight is an unknown tensor, too, and skipping it changes the weight."
        ),
        setting=Setting(file="scaled"),
        seen=(
            (
                "https://github.com/Lightricks/LTX-2/pull/172",
                "static noise: weights 770 times too large, their scales dropped by `strict=False`",
            ),
            ("https://github.com/leejet/stable-diffusion.cpp/pull/1898", "a pure white image, and no error"),
        ),
    ),
    Mistake(
        "20d",
        "a text encoder's names only with their prefix",
        "checkpoints/names.py",
        before='OPTIONAL_PREFIXES = ("text_model.", "vision_model.")',
        after="OPTIONAL_PREFIXES = ()",
        why=(
            "transformers 5 writes a text encoder's names without their prefix `text_model.`, earlier versions "
            "with it. A loader that knows one spelling refuses the other half of the world's files."
        ),
        setting=Setting(file="bare_text"),
        seen=(
            (
                "https://github.com/ubisoft/ComfyUI-Chord/issues/27",
                "every key of the text encoder is missing with transformers 5",
            ),
            ("https://github.com/Nerogar/OneTrainer/pull/1506", "what the change breaks in one program"),
        ),
    ),
    Mistake(
        "20e",
        "a whole network dropped for its prefix",
        "checkpoints/foreign.py",
        before='r"(loss|embedding_manager)\\..*|',
        after='r"(loss|embedding_manager|model_ema|cond_stage_model\\.model)\\..*|',
        why=(
            "A pattern for what training left behind (`loss`, `model_ema.decay`) that is a little too wide takes "
            "the averaged network with it. The live one remains, so nothing is missing."
        ),
        setting=Setting(file="averaged"),
    ),
    Mistake(
        "20f",
        "weights rounded to half precision when they are loaded",
        "loading.py",
        before="_aligned(converted(tensor, device, dtype))",
        after="_aligned(converted(tensor.half(), device, dtype))",
        why=(
            "`.half()` in a loader saves memory and is forgotten there. Whoever asks for float32 later computes "
            "in float32, with numbers that have eleven bits."
        ),
        setting=Setting(file="full_precision"),
    ),
    Mistake(
        "20g",
        "weights rounded to half precision when they are converted",
        "checkpoints/write.py",
        before='write_safetensors(place / f"{part}.safetensors", tensors, dtype=dtype)',
        after='write_safetensors(place / f"{part}.safetensors", tensors, dtype=dtype or torch.float16)',
        why=(
            "A converter that writes half precision by default makes files of the usual size. Convert there and "
            "back, and the digits are gone."
        ),
        setting=Setting(file="full_precision", convert="ours"),
        seen=(
            (
                "https://github.com/TheLastBen/fast-stable-diffusion/issues/576",
                "saved in half precision although trained in full",
            ),
        ),
    ),
    Mistake(
        "20h",
        "weights rounded to half precision when they are exported",
        "checkpoints/write.py",
        before='rename(own, rows, "diffusers"), {"format": "pt"}, dtype)',
        after='rename(own, rows, "diffusers"), {"format": "pt"}, dtype or torch.float16)',
        why=(
            "As above, on the way out: the exported model is compared with a published one in half precision, and "
            "agrees."
        ),
        setting=Setting(file="full_precision", convert="diffusers"),
    ),
    Mistake(
        "20i",
        "a checkpoint refused for what Lightning left in it",
        "checkpoints/unpickle.py",
        before='    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",\n',
        after="",
        why=(
            "PyTorch Lightning stores its callbacks in the checkpoint. With `weights_only=True` torch refuses the "
            "class's name; many take the refusal as a reason to turn the check off."
        ),
        setting=Setting(file="lightning"),
        seen=(
            (
                "https://github.com/flowtyone/ComfyUI-Flowty-LDSR/issues/8",
                '"Unsupported class ... ModelCheckpoint"',
            ),
        ),
    ),
    Mistake(
        "20j",
        "what a pickle asks for listed, and not refused",
        "checkpoints/pickle_file.py",
        before="    if refused:",
        after="    if False:",
        why=(
            "A pickle can name any function to be called when it is opened. A scanner that reports it and opens "
            "the file all the same is a scanner for the log."
        ),
        setting=Setting(file="stowaway"),
        seen=(
            (
                "https://github.com/Comfy-Org/ComfyUI/issues/12286",
                "an unpickler that refuses one package and allows all others",
            ),
        ),
    ),
)
