r"""Sampling: which timesteps, how much noise to begin with, and what the U-Net predicts."""

from ldm.lab.museum.mistake import Mistake, Setting

MISTAKES = (
    Mistake(
        "8a",
        "DDIM's timesteps without their offset",
        "diffusion/spacing.py",
        before="return [t + 1 for t in leading_from_0(count, total)]",
        after="return leading_from_0(count, total)",
        why=(
            "Twenty of a thousand timesteps are 0, 50, ..., 950, or 1, 51, ..., 951: Stable Diffusion's DDIM adds "
            "1 (`steps_offset` in diffusers). Without it the last step begins where it ends and changes nothing."
        ),
        setting=Setting(options={"sampler": "ddim", "steps": 10, "spacing": "leading"}),
        seen=(
            (
                "https://github.com/CompVis/latent-diffusion/issues/136",
                "without the offset, the last step does nothing",
            ),
        ),
    ),
    Mistake(
        "8b",
        "DDIM ends at alpha_bar = 1",
        "diffusion/samplers/table.py",
        before='"no noise, few steps", "leading", clean_end=False)',
        after='"no noise, few steps", "leading")',
        why=(
            "The paper's last step ends at a clean image, with alpha-bar 1. Stable Diffusion's ends at the level "
            "of timestep 0 (`set_alpha_to_one=False` in diffusers). The difference is a trace of noise."
        ),
        setting=Setting(options={"sampler": "ddim", "steps": 5}),
        seen=(
            (
                "https://github.com/Stability-AI/stablediffusion/pull/345",
                "the last level is not clean, and the outputs are a bit noisy",
            ),
            (
                "https://github.com/huggingface/diffusers/issues/6068",
                "the setting was inherited by a model that it is wrong for",
            ),
        ),
    ),
    Mistake(
        "8c",
        "PLMS without its second evaluation in the first step",
        "diffusion/samplers/plms.py",
        before="if len(past) == 1 and len(ahead) > 1:",
        after="if False:",
        why=(
            "PLMS extrapolates from past evaluations and has none at its first step. The original code evaluates "
            "the network twice there. Leaving that out gives a sampler that runs, with a worse first step."
        ),
        setting=Setting(options={"sampler": "plms", "steps": 10}),
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/1106",
                "50 steps call the network 51 times, and they should",
            ),
        ),
    ),
    Mistake(
        "8d",
        "an init image noised to the level of the next timestep",
        "pipeline.py",
        before="levels[0].mix(init_image.latent",
        after="levels[1].mix(init_image.latent",
        why=(
            "Image to image noises the image to the level of its first step, and an index into a list of levels "
            "is easily off by one. Here the latent has less noise than the network is told; in the original "
            "script it has more."
        ),
        setting=Setting(init=True, options={"sampler": "ddim", "steps": 10, "strength": 0.6}),
        seen=(
            ("https://github.com/CompVis/stable-diffusion/pull/533", "much noise is left at a low strength"),
            ("https://github.com/invoke-ai/InvokeAI/pull/1946", "the same in a copy of that script"),
        ),
    ),
    Mistake(
        "14a",
        "k-diffusion's samplers begin from plain noise",
        "diffusion/spacing.py",
        before="return noise if sampler.unit_start or leading else levels[0].sigma * noise",
        after="return noise",
        why=(
            "k-diffusion counts noise in sigma, up to 14.6, and begins with noise of that size. A port that "
            "begins with standard normal noise, as DDIM does, begins with the wrong amount."
        ),
        setting=Setting(options={"sampler": "euler", "steps": [700, 500, 300, 100]}),
        seen=(
            (
                "https://github.com/huggingface/diffusers/pull/891",
                "a pipeline that scaled neither its noise nor its input",
            ),
        ),
    ),
    Mistake(
        "14b",
        "the network's input not scaled down",
        "diffusion/level.py",
        before="return self.alpha * x0 + self.sigma * eps",
        after="return x0 + self.ve_sigma * eps",
        why=(
            "In k-diffusion's form the latent grows with sigma, and is scaled down to variance 1 before the "
            "network sees it (`scale_model_input` in diffusers). It is the call that everyone who writes their "
            "own loop forgets."
        ),
        setting=Setting(options={"sampler": "euler"}),
        seen=(
            ("https://github.com/huggingface/diffusers/issues/1276", "inpainting scaled the mask as well"),
            (
                "https://github.com/finegrain-ai/refiners/pull/138",
                "both scalings were missing in a new Euler sampler",
            ),
        ),
    ),
    Mistake(
        "15a",
        "SD2 768's v taken for epsilon",
        "config.py",
        before='noise=NoiseConfig(prediction="v")',
        after='noise=NoiseConfig(prediction="eps")',
        why=(
            "A network that predicts v has the same shapes as one that predicts eps, and the file does not say "
            "which it is. The mistake is the first that users of Stable Diffusion 2 met."
        ),
        standin="other_prediction",
        seen=(
            (
                "https://github.com/lllyasviel/stable-diffusion-webui-forge/issues/2509",
                "noise instead of an image, until the right .yaml lies beside the file",
            ),
        ),
    ),
    Mistake(
        "15b",
        "v taken for epsilon although the scheduler's JSON says v",
        "checkpoints/settings.py",
        before='if "prediction_type" in noise:',
        after="if False:",
        why=(
            "diffusers writes the prediction type into the scheduler's JSON, not into the U-Net's. A loader that "
            "reads the U-Net's config alone never sees it."
        ),
        setting=Setting(prompt="a serene lake surrounded by snow-capped mountains at sunrise"),
        standin="other_prediction",
        seen=(
            (
                "https://github.com/invoke-ai/InvokeAI/issues/7495",
                "noisy images although the file has the mark `v_pred`",
            ),
        ),
    ),
    Mistake(
        "15c",
        "v taken for epsilon although the file's name says v",
        "checkpoints/infer_config.py",
        before='return said[1] == "v_prediction"',
        after="return False",
        why=(
            'For a single file, its name is often the only hint: "768-v" or "vpred". A loader that ignores it '
            "takes eps, which is right for most files."
        ),
        setting=Setting(prompt="a white cat with a scarf on a blue background"),
        standin="other_prediction",
        seen=(
            (
                "https://github.com/leejet/stable-diffusion.cpp/issues/325",
                "noisy, unusable images from fine-tuned models that predict v",
            ),
        ),
    ),
)
