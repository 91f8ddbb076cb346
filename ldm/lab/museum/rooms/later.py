r"""What came later: clip skip, samplers of distilled models and of stochastic differential equations, large images."""

from ldm.lab.museum.mistake import Mistake, Setting

SKIPPED = Setting(options={"clip_skip": 2})
LARGE = Setting(options={"size": (256, 256), "window": 128})
TOLD = Setting(options={"sampler": "lcm", "steps": 4}, file="told_guidance")

MISTAKES = (
    Mistake(
        "22a",
        "clip_skip counted as in diffusers",
        "text/encoder.py",
        before="context = states[last + 1 - clip_skip]",
        after="context = states[last - clip_skip * (clip_skip > 1)]",
        why=(
            "AUTOMATIC1111's web interface counts the last layer as 1, diffusers counts the layers that are skipped. "
            "The 2 of a model's card means one skipped layer, and a port that follows diffusers skips two."
        ),
        setting=SKIPPED,
    ),
    Mistake(
        "22b",
        "clip_skip without the final norm",
        "text/encoder.py",
        before='        if self.output != "hidden":\n            context',
        after='        if self.output != "hidden" and clip_skip == 1:\n            context',
        why=(
            "An earlier layer's state comes out of a library without the final norm, which only the last one has "
            "passed. Whoever takes it as it is feeds the U-Net numbers of another size."
        ),
        setting=SKIPPED,
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/1721",
                "the norm for an earlier layer: the web interface applies it, the pipeline did not",
            ),
        ),
    ),
    Mistake(
        "22c",
        "clip_skip forgotten in the negative prompt",
        "prompts.py",
        before="        groups.append((images, both[: len(here)], both[len(here) :]))",
        after=(
            "        plain = encode_text([*here, *negatives_here], weighting, long_prompt, 1)\n"
            "        groups.append((images, both[: len(here)], plain[len(here) :]))"
        ),
        why=(
            "The negative prompt is encoded elsewhere, or was encoded before and kept. Guidance then exaggerates the "
            "difference between two layers together with that between two prompts."
        ),
        setting=SKIPPED,
    ),
    Mistake(
        "23a",
        "LCM's steps off the grid of its distillation",
        "diffusion/samplers/table.py",
        before='Sampler("lcm", "LCM", "for models distilled for it, 2 to 8 steps", "lcm")',
        after='Sampler("lcm", "LCM", "for models distilled for it, 2 to 8 steps", "leading")',
        why=(
            "A latent consistency model was distilled at fifty timesteps and knows no others. Any spacing runs, and "
            "the usual one is at hand. A model that was not distilled makes rough images with either."
        ),
        setting=Setting(options={"sampler": "lcm", "steps": 4}),
    ),
    Mistake(
        "23b",
        "LCM without the weights of its boundary condition",
        "diffusion/samplers/lcm.py",
        before="next_level.mix(out * x0 + skip * x_t, noise)",
        after="next_level.mix(x0, noise)",
        why=(
            "Two weights make the network the identity at the clean end. At every timestep that is sampled they are "
            "nearly 0 and 1, so leaving them out looks like a simplification."
        ),
        setting=Setting(options={"sampler": "lcm", "steps": 4}),
    ),
    Mistake(
        "23c",
        "TCD's gamma the wrong way round",
        "diffusion/samplers/tcd.py",
        before="math.floor((1 - eta) * next_level.t)",
        after="math.floor(eta * next_level.t)",
        why=(
            "TCD goes below its target and adds noise back up. Its gamma says how far; whether 0 means none or all of "
            "the way has to be read in the code, which calls it eta."
        ),
        setting=Setting(options={"sampler": "tcd", "steps": 4}),
    ),
    Mistake(
        "23d",
        "the guidance scale told as it is, not minus 1",
        "diffusion/conditioning.py",
        before="w=torch.tensor([guidance - 1]",
        after="w=torch.tensor([guidance]",
        why=(
            "A latent consistency model reads w, which is the scale of Ho and Salimans: 0 is no guidance. Everywhere "
            "else the scale is that of Saharia et al., where 1 is none. Both make images; one is guided more strongly."
        ),
        setting=TOLD,
    ),
    Mistake(
        "23e",
        "the sinusoids of the guidance with the cosines first",
        "unet/guidance_embedding.py",
        before="torch.cat([angle.sin(), angle.cos()], dim=-1)",
        after="torch.cat([angle.cos(), angle.sin()], dim=-1)",
        why=(
            "The sinusoids of the timestep begin with the cosines, those of the guidance scale with the sines. They "
            "come from two code bases, and the function for the one is at hand when the other is needed."
        ),
        setting=TOLD,
    ),
    Mistake(
        "23f",
        "the frequencies of the guidance as those of the timestep",
        "unet/guidance_embedding.py",
        before="-math.log(10000) / (half - 1)",
        after="-math.log(10000) / half",
        why=(
            "The same again: the timestep's frequencies stop one short of 1/10000, those of the guidance scale reach "
            "it. All but the first are a little off, and at an angle of thousands that is another number altogether."
        ),
        setting=TOLD,
    ),
    Mistake(
        "23g",
        "a model that is told the guidance, guided once more",
        "networks.py",
        before="cond, guidance = told_guidance(cond, guidance), 1.0",
        after="cond, uncond = (one and told_guidance(one, guidance) for one in (cond, uncond))",
        why=(
            "The loop for classifier-free guidance is there already, and a scale above 1 switches it on. But the "
            "network's answer has the guidance in it, so the image gets it twice, in twice the time."
        ),
        setting=TOLD,
    ),
    Mistake(
        "23h",
        "a LoRA for few steps sampled with the model's usual settings",
        "checkpoints/loaded.py",
        before="if lora.few_steps is not None and strength > 0:\n            return",
        after="if False:\n            return",
        why=(
            "Nothing in the weights says how they want to be sampled, and a pipeline keeps the scheduler that the base "
            "model came with. Guidance and many steps then burn the image, or leave noise in it."
        ),
        setting=Setting(
            prompt="a dog with glasses <lora:sdxl_lightning_8step_lora:0.2>",
            options={"sampler": None, "steps": None, "guidance": None},
            file="few_steps",
        ),
        seen=(
            (
                "https://github.com/huggingface/diffusers/issues/6112",
                "noise from Turbo with the default scheduler",
            ),
            ("https://github.com/huggingface/diffusers/issues/7131", "SDXL-Lightning with another spacing"),
        ),
    ),
    Mistake(
        "24a",
        "UniPC's corrector left out",
        "diffusion/samplers/unipc.py",
        before="x = x - now.level.alpha * math.expm1(-h) * change",
        after="x = x - 0 * change",
        why=(
            "UniPC predicts a latent, evaluates the network there, and corrects the latent with that evaluation. The "
            "predictor alone samples just as well to the eye, one order less accurately."
        ),
        setting=Setting(options={"sampler": "unipc", "steps": 8}),
    ),
    Mistake(
        "24b",
        "the SDE's noise drawn afresh, so that the image depends on the number of steps",
        "diffusion/samplers/dpmpp_2m_sde.py",
        before="noise_fn(now.level, next_level)",
        after="noise_fn()",
        why=(
            "Other samplers draw new noise at each step. Here it belongs to the way between two levels, a path that "
            "finer steps only see in more detail. Drawn afresh, more steps give another image, not a better one."
        ),
        setting=Setting(options={"sampler": "dpmpp_2m_sde", "steps": 10}),
    ),
    Mistake(
        "24c",
        "DPM++ SDE's second evaluation at the middle of the timesteps",
        "diffusion/samplers/dpmpp_sde.py",
        before="return level.schedule.at_ratio(math.sqrt(level.ve_sigma * next_level.ve_sigma))",
        after="return level.schedule.at_time((level.t + next_level.t) / 2)",
        why=(
            "Halfway means the middle of the logarithms of the noise levels, a geometric mean. The middle of two "
            "timesteps is the easier one to compute, and is somewhere near."
        ),
        setting=Setting(options={"sampler": "dpmpp_sde", "steps": 10}),
    ),
    Mistake(
        "34a",
        "windows added up and not averaged",
        "windows.py",
        before="return x0 / count, eps / count",
        after="return x0, eps",
        why=(
            "The sum over the windows is one line and the division by their number another, and at the edges, where "
            "there is one window only, both are equal."
        ),
        setting=LARGE,
    ),
    Mistake(
        "34b",
        "windows side by side, without an overlap",
        "windows.py",
        before="tile_starts(length, side, side // 2)",
        after="tile_starts(length, side, 0)",
        why=(
            "Half of the evaluations seem to be saved. But then nothing carries over from one window to the next, and "
            "the result is several images beside one another."
        ),
        setting=LARGE,
    ),
)
