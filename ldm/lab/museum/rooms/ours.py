r"""Mistakes that this project made itself and mended: you may meet them elsewhere."""

from ldm.lab.museum.mistake import Mistake, Setting

LONG = (
    "a serene lake surrounded by snow-capped mountains at sunrise, with a small boat on the water, tall pines on the "
    "shore and a red balloon high up in the evening sky"
)

MISTAKES = (
    Mistake(
        "28",
        "a number of steps that leaves out the noisiest timesteps",
        "diffusion/spacing.py",
        before="if count * stride > total * 7 / 8:",
        after="if True:",
        why=(
            "Every `1000 // steps` timesteps is a grid, and for most numbers of steps it ends near 1000. For 143 it "
            "ends at 852, and for 334 at 666: sampling starts from pure noise where the network expects an image. We "
            "had it from diffusers, whose grid is the same."
        ),
        setting=Setting(options={"sampler": "ddim", "steps": 143, "spacing": "leading"}),
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/2585",
                "DDIM does not start at the noisiest timestep",
            ),
        ),
    ),
    Mistake(
        "29",
        "the sampler's state in half precision",
        "networks.py",
        before="return torch.promote_types(self.dtype, torch.float32)",
        after="return self.dtype",
        why=(
            "A model in bfloat16 hands out latents in bfloat16, and the schedule follows suit. Between 0.996 and 1 "
            "there is no such number, so the first alpha-bars become 1; and every step's small change is rounded."
        ),
        setting=Setting(loading={"dtype": "bfloat16"}),
        seen=(
            (
                "https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues/14071",
                "alpha-bars rounded while the model is loaded",
            ),
            (
                "https://github.com/huggingface/diffusers/pull/3005",
                "a division by zero where alpha-bar rounds to 1",
            ),
        ),
    ),
    Mistake(
        "30",
        "PLMS with as few steps as the others",
        "diffusion/samplers/table.py",
        before='"DDIM with multistep", "leading", clean_end=False, min_default_steps=40)',
        after='"DDIM with multistep", "leading", clean_end=False)',
        why=(
            "A default for all samplers is a mistake for those that extrapolate. PLMS continues the line through its "
            "last four predictions, and with long steps the line leads astray."
        ),
        setting=Setting(options={"sampler": "plms", "steps": None}),
    ),
    Mistake(
        "31",
        "a prompt that depends on its neighbours",
        "text/prompt.py",
        before='if long_prompt != "chunk":',
        after="if True:",
        why=(
            "Contexts of a batch need one length, so a short prompt beside a long one was padded with empty chunks. "
            "The U-Net reads those like any other. The same prompt and seed gave one image alone, another in company."
        ),
        setting=Setting(prompt=["a dog with glasses", LONG], options={"long_prompt": "chunk"}),
        seen=(
            (
                "https://github.com/kohya-ss/sd-scripts/pull/1338",
                "an image changes when a very long prompt is in its batch",
            ),
        ),
    ),
)
