r"""What every image passes through: guidance, the noise schedule, and pixels between [-1, 1] and [0, 255]."""

from ldm.lab.museum.mistake import Mistake, Setting

MISTAKES = (
    Mistake(
        "25a",
        "the predictions with and without the prompt exchanged",
        "networks.py",
        before="classifier_free_guidance(out_uncond, out_cond, scale)",
        after="classifier_free_guidance(out_cond, out_uncond, scale)",
        why=(
            "Both predictions come out of one batch, and which half is which is up to the line that put them in. "
            "Exchanged, guidance pushes away from the prompt. At a scale of 1 nothing shows."
        ),
        seen=(
            (
                "https://github.com/Nerogar/OneTrainer/issues/775",
                "one of two text encoders' outputs stacked the other way round",
            ),
        ),
    ),
    Mistake(
        "25b",
        "the guidance scale counted from zero",
        "diffusion/guidance.py",
        before="return uncond + scale * (cond - uncond)",
        after="return cond + scale * (cond - uncond)",
        why=(
            "Two papers count differently: in one a scale of 1 means no guidance, in the other 0 does. The formula of "
            "the one with the number of the other guides a bit too strongly, and looks like a matter of taste."
        ),
        seen=(
            (
                "https://github.com/threestudio-project/threestudio/issues/289",
                "is the first term the wrong prediction? No, the scale is off by one",
            ),
        ),
    ),
    Mistake(
        "26a",
        "pixels in [-1, 1] clipped to [0, 1]",
        "images/pixels.py",
        before="(pixels.detach().float() / 2 + 0.5).clamp(0, 1)",
        after="pixels.detach().float().clamp(0, 1)",
        why=(
            "The decoder's pixels are in [-1, 1], and a function that saves images wants [0, 1]. Clipping silences the "
            "warning. All that was darker than the middle is black."
        ),
        seen=(
            (
                "https://github.com/openai/guided-diffusion/issues/61",
                "images that are too dark, until one is added and the sum halved",
            ),
        ),
    ),
    Mistake(
        "26b",
        "an init image in [0, 1]",
        "images/pixels.py",
        before=".float() / 127.5 - 1",
        after=".float() / 255",
        why=(
            "Every image library converts to [0, 1]. The encoder takes that without complaint, as the upper half of "
            "its range: the image is pale, and so is all that is made of it."
        ),
        setting=Setting(init=True, options={"strength": 0.5}),
        seen=(
            (
                "https://github.com/utensils/mold/pull/1154",
                "washed-out images whatever the prompt and strength; a test had pinned the wrong range",
            ),
            (
                "https://github.com/black-forest-labs/flux/issues/133",
                "overexposed images from one of two demos",
            ),
            (
                "https://github.com/mlcommons/training/issues/721",
                "whited-out reconstructions from a training set that was encoded so",
            ),
        ),
    ),
    Mistake(
        "26c",
        "red and blue exchanged",
        "images/pixels.py",
        before='"b c h w -> b h w c").numpy()',
        after='"b c h w -> b h w c").numpy()[..., ::-1]',
        why=(
            "OpenCV keeps images as BGR, everything else as RGB. One conversion too many or too few, and skies are "
            "orange. On a grey image nothing shows."
        ),
        seen=(
            (
                "https://github.com/deforum/sd-webui-deforum/issues/8",
                "right in the preview, exchanged in the files on disk",
            ),
        ),
    ),
    Mistake(
        "27a",
        "betas evenly spaced, not their roots",
        "diffusion/schedule.py",
        before=(
            'torch.linspace(start**0.5, end**0.5, num_timesteps, dtype=torch.float32, device="cpu")\n'
            "            betas = roots**2"
        ),
        after=(
            'torch.linspace(start, end, num_timesteps, dtype=torch.float32, device="cpu")\n'
            "            betas = roots"
        ),
        why=(
            "Stable Diffusion's own config calls its schedule `linear`, and means evenly spaced square roots. What "
            "others call linear, it calls `sqrt_linear`. The name is the trap."
        ),
        setting=Setting(options={"sampler": "ddim"}),
        seen=(
            (
                "https://github.com/CompVis/stable-diffusion/issues/314",
                "why is the linear schedule not linear?",
            ),
            ("https://github.com/Comfy-Org/ComfyUI/issues/1998", "the two names, exchanged between programs"),
            (
                "https://github.com/antgroup/echomimic/pull/127",
                "noisy backgrounds, gone with the schedule of the training",
            ),
        ),
    ),
    Mistake(
        "27b",
        "alpha-bar in place of its square root",
        "diffusion/level.py",
        before="alpha_bar[t].sqrt().item(), (1 - alpha_bar[t]).sqrt().item()",
        after="alpha_bar[t].item(), (1 - alpha_bar[t]).item()",
        why=(
            "Variances multiply, and what is added up are deviations. DDPM writes alpha-bar for the square, the DDIM "
            "paper alpha, and some code drops the root on the way from one to the other."
        ),
        setting=Setting(options={"sampler": "ddim"}),
        seen=(
            (
                "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/152",
                "a root forgotten in an annotated sampler",
            ),
            (
                "https://github.com/mathpluscode/ImgX-DiffSeg/issues/4",
                "a missing square root in DDIM's coefficient",
            ),
        ),
    ),
)
