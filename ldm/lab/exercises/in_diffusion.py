"""The exercises about diffusion: adding noise, what a prediction means, guidance, and the samplers' steps."""

from ldm.lab.exercises.exercise import Exercise, wrong

IN_DIFFUSION = (
    Exercise(
        "add_noise",
        "drown a latent in noise, in one go (elsewhere called q_sample)",
        "ldm.diffusion.schedule",
        "add_noise",
        ("tests/diffusion/test_schedule.py", "tests/diffusion/test_predict.py"),
        (
            wrong("forgets both square roots", "a.sqrt()", "a", "(1 - a).sqrt()", "(1 - a)"),
            wrong("forgets the square root over the noise's share", "(1 - a).sqrt()", "(1 - a)"),
            wrong(
                "takes 1 minus the square root, instead of the square root of 1 minus",
                "(1 - a).sqrt()",
                "(1 - a.sqrt())",
            ),
            wrong("exchanges picture and noise", "* x0 +", "* eps +", "* eps)", "* x0)"),
        ),
    ),
    Exercise(
        "v_to_eps",
        "read picture and noise out of any kind of prediction: eps, v or x0",
        "ldm.diffusion.predict",
        "x0_and_eps",
        ("tests/diffusion/test_predict.py",),
        (
            wrong(
                "has the signs of v the wrong way round",
                "a * x_t - s * out, s * x_t + a * out",
                "a * x_t + s * out, s * x_t - a * out",
            ),
            wrong(
                "exchanges the shares of picture and noise in v",
                "a * x_t - s * out, s * x_t + a * out",
                "s * x_t - a * out, a * x_t + s * out",
            ),
            wrong(
                "returns the noise first and the picture second",
                "return out, (x_t - a * out) / s",
                "return (x_t - a * out) / s, out",
            ),
            wrong("forgets to divide by the picture's share", "(x_t - s * out) / a", "(x_t - s * out)"),
            wrong(
                "takes alpha squared for alpha, and sigma squared for sigma",
                "level.alpha, level.sigma",
                "level.alpha**2, level.sigma**2",
            ),
        ),
    ),
    Exercise(
        "v_target",
        "what the network should predict, for each prediction type",
        "ldm.diffusion.predict",
        "training_target",
        ("tests/diffusion/test_predict.py",),
        (
            wrong(
                "subtracts the noise from the picture instead of the picture from the noise",
                "a.sqrt() * eps - (1 - a).sqrt() * x0",
                "(1 - a).sqrt() * x0 - a.sqrt() * eps",
            ),
            wrong("adds the two parts, which is x_t and not v", "* eps - (1", "* eps + (1"),
            wrong(
                "exchanges the shares of picture and noise",
                "a.sqrt() * eps - (1 - a).sqrt() * x0",
                "(1 - a).sqrt() * eps - a.sqrt() * x0",
            ),
        ),
    ),
    Exercise(
        "guidance",
        "exaggerate the difference that the prompt makes",
        "ldm.diffusion.guidance",
        "classifier_free_guidance",
        (
            "tests/diffusion/test_guidance.py::test_guidance_by_hand",
            "tests/diffusion/test_guidance.py::test_both_ways_of_writing_guidance_agree",
            "tests/diffusion/test_guidance.py::test_guidance_zero_ignores_the_prompt_and_one_ignores_the_rest",
            "tests/diffusion/test_guidance.py::test_guidance_without_a_difference_does_nothing",
        ),
        (
            wrong(
                "counts from the prediction with prompt, so 0 is no guidance (the paper's w, not our g)",
                "uncond + scale",
                "cond + scale",
            ),
            wrong(
                "moves away from the prompt: the difference has the wrong sign",
                "cond - uncond",
                "uncond - cond",
            ),
            wrong(
                "mixes the two the wrong way round",
                "uncond + scale * (cond - uncond)",
                "cond + scale * (uncond - cond)",
            ),
            wrong("forgets the prediction without prompt that it starts from", "uncond + scale", "scale"),
        ),
    ),
    Exercise(
        "posterior",
        "the step back that Bayes' rule gives if the image is known",
        "ldm.diffusion.samplers.ddpm",
        "posterior",
        (
            "tests/diffusion/samplers/test_ddpm.py::test_the_posterior_by_hand",
            "tests/diffusion/samplers/test_ddpm.py::test_the_posterior_is_bayes_rule",
            "tests/diffusion/samplers/test_ddpm.py::test_a_step_back_from_a_sample_of_x_t_is_a_sample_of_the_level_below",
            "tests/diffusion/samplers/test_ddpm.py::test_neighbouring_steps_have_the_betas_of_the_schedule",
            "tests/diffusion/samplers/test_ddpm.py::test_the_noise_that_a_step_adds_has_the_chosen_variance",
            "tests/diffusion/samplers/test_ddpm.py::test_the_step_to_the_end_is_the_guess_itself",
        ),
        (
            wrong(
                "takes beta to be sigma squared, as if the step began at a clean latent",
                "step_variance(level, next_level)",
                "level.sigma**2",
            ),
            wrong(
                "gives beta for the variance, instead of beta-tilde",
                "next_level.sigma**2 / level.sigma**2 * beta",
                "beta",
            ),
            wrong("exchanges x0 and x_t", "of_x0 * x0 + of_x_t * x_t", "of_x0 * x_t + of_x_t * x0"),
        ),
    ),
    Exercise(
        "ddim_step",
        "one step of DDIM, with and without fresh noise",
        "ldm.diffusion.samplers.ddim",
        "ddim_step",
        ("tests/diffusion/samplers/test_ddim.py",),
        (
            wrong(
                "leaves sigma squared out of the direction's share, so noise is added on top",
                "- sigma**2",
                "",
            ),
            wrong("subtracts sigma instead of sigma squared", "- sigma**2", "- sigma"),
            wrong("stays at the noise level that it came from", "(next_level.sigma**2", "(level.sigma**2"),
            wrong(
                "takes alpha squared for the weight of the image",
                "next_level.alpha * x0",
                "next_level.alpha**2 * x0",
            ),
        ),
    ),
    Exercise(
        "ddim_sigma",
        "how much fresh noise a step of DDIM adds",
        "ldm.diffusion.samplers.ddim",
        "ddim_sigma",
        ("tests/diffusion/samplers/test_ddim.py",),
        (
            wrong(
                "forgets the square root",
                "math.sqrt(max(0.0, 1 - kept**2))",
                "max(0.0, 1 - kept**2)",
            ),
            wrong(
                "takes eta under the square root",
                "eta * next_level.sigma * math.sqrt(max(0.0, 1 - kept**2))",
                "next_level.sigma * math.sqrt(max(0.0, eta * (1 - kept**2)))",
            ),
            wrong(
                "has the wrong one of the two noise levels in front",
                "eta * next_level.sigma",
                "eta * level.sigma",
            ),
        ),
    ),
    Exercise(
        "karras_sigmas",
        "noise levels that crowd where the details appear",
        "ldm.diffusion.spacing",
        "karras_sigmas",
        ("tests/diffusion/test_spacing.py",),
        (
            wrong(
                "runs from the smallest level to the largest",
                "high + ramp * (low - high)",
                "low + ramp * (high - low)",
            ),
            wrong("spaces the levels themselves evenly, not their roots", "(1 / rho)", "1", "** rho", "** 1"),
            wrong(
                "stops one place before sigma_min: it divides by n, not n - 1",
                "np.linspace(0, 1, count)",
                "np.arange(count) / count",
            ),
        ),
    ),
    Exercise(
        "dpmpp_2m_step",
        "one step of DPM-Solver++ (2M): a line through two estimates",
        "ldm.diffusion.samplers.dpmpp_2m",
        "dpmpp_2m_step",
        ("tests/diffusion/samplers/test_dpmpp_2m.py", "tests/diffusion/test_published.py::test_dpmpp_2m"),
        (
            wrong(
                "leaves the older estimate out: that is DDIM's step",
                "x0 + h / (2 * h_prev) * (x0 - x0_prev)",
                "x0",
            ),
            wrong("corrects twice as much: the 2 is missing", "(2 * h_prev)", "h_prev"),
            wrong("has the two steps' lengths the wrong way round", "h / (2 * h_prev)", "h_prev / (2 * h)"),
        ),
    ),
    Exercise(
        "heun_step",
        "one step of Heun's method: the mean of two directions",
        "ldm.diffusion.samplers.heun",
        "heun_step",
        ("tests/diffusion/samplers/test_heun.py",),
        (
            wrong(
                "adds the two directions instead of taking their mean",
                "(eps + eps_next) / 2",
                "eps + eps_next",
            ),
            wrong("takes the second direction alone", "(eps + eps_next) / 2", "eps_next"),
            wrong("takes the first direction alone: that is Euler's step", "(eps + eps_next) / 2", "eps"),
        ),
    ),
)
