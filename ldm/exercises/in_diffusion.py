"""The exercises about diffusion: adding noise, what a prediction means, guidance, and the samplers' steps."""

from ldm.exercises.exercise import Exercise, wrong

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
                "takes alpha_bar itself for its square root",
                "alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt()",
                "alpha_bar_t, (1 - alpha_bar_t)",
            ),
        ),
    ),
    Exercise(
        "v_target",
        "what the network should have said, for each kind of prediction",
        "ldm.diffusion.predict",
        "target",
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
        "ldm.diffusion.predict",
        "guide",
        ("tests/diffusion/test_predict.py",),
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
        "the step back that Bayes' rule gives if the picture is known",
        "ldm.diffusion.ddpm",
        "posterior",
        (
            "tests/diffusion/test_ddpm.py::test_the_posterior_by_hand",
            "tests/diffusion/test_ddpm.py::test_the_posterior_is_bayes_rule",
            "tests/diffusion/test_ddpm.py::test_a_step_back_from_a_sample_of_x_t_is_a_sample_of_the_level_below",
            "tests/diffusion/test_ddpm.py::test_neighbouring_steps_have_the_betas_of_the_schedule",
            "tests/diffusion/test_ddpm.py::test_the_noise_that_a_step_adds_has_the_chosen_variance",
            "tests/diffusion/test_ddpm.py::test_the_step_to_the_end_is_the_guess_itself",
        ),
        (
            wrong(
                "takes beta to be 1 - alpha_bar_t, as if the stride began at the picture",
                "1 - alpha_bar_t / alpha_bar_prev",
                "1 - alpha_bar_t",
            ),
            wrong(
                "gives beta for the variance, instead of beta-tilde",
                "(1 - alpha_bar_prev) / (1 - alpha_bar_t) * beta\n",
                "beta\n",
            ),
            wrong("exchanges x0 and x_t", "* x0", "* x_t", "* x_t\n    )", "* x0\n    )"),
        ),
    ),
    Exercise(
        "ddim_step",
        "one step of DDIM, with and without fresh noise",
        "ldm.diffusion.ddim",
        "ddim_step",
        ("tests/diffusion/test_ddim.py",),
        (
            wrong(
                "leaves sigma squared out of the direction's share, so noise is added on top",
                "- sigma**2",
                "",
            ),
            wrong("subtracts sigma instead of sigma squared", "sigma**2", "sigma"),
            wrong(
                "stays at the noise level that it came from", "(1 - alpha_bar_prev -", "(1 - alpha_bar_t -"
            ),
            wrong(
                "forgets the square root over the picture's share",
                "alpha_bar_prev.sqrt() * x0",
                "alpha_bar_prev * x0",
            ),
        ),
    ),
    Exercise(
        "ddim_sigma",
        "how much fresh noise a step of DDIM adds",
        "ldm.diffusion.ddim",
        "ddim_sigma",
        ("tests/diffusion/test_ddim.py",),
        (
            wrong("gives the variance instead of the standard deviation", ".sqrt()", ""),
            wrong("takes eta under the square root", "eta * (", "(eta * "),
            wrong(
                "has the two noise levels the wrong way round",
                "(1 - alpha_bar_prev) / (1 - alpha_bar_t)",
                "(1 - alpha_bar_t) / (1 - alpha_bar_prev)",
            ),
        ),
    ),
    Exercise(
        "karras_sigmas",
        "noise levels that crowd where the details appear",
        "ldm.diffusion.sigmas",
        "karras_sigmas",
        ("tests/diffusion/test_sigmas.py",),
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
        "one step of DPM-Solver++ (2M): a line through two guesses",
        "ldm.diffusion.dpmpp_2m",
        "dpmpp_2m_step",
        ("tests/diffusion/test_dpmpp_2m.py", "tests/diffusion/test_published.py::test_dpmpp_2m"),
        (
            wrong(
                "leaves the older guess out: that is DDIM's step",
                "x0 + h / (2 * h_before) * (x0 - x0_before)",
                "x0",
            ),
            wrong("corrects twice as much: the 2 is missing", "(2 * h_before)", "h_before"),
            wrong(
                "has the two strides' lengths the wrong way round", "h / (2 * h_before)", "h_before / (2 * h)"
            ),
        ),
    ),
    Exercise(
        "heun_step",
        "one step of Heun's method: the mean of two directions",
        "ldm.diffusion.heun",
        "heun_step",
        ("tests/diffusion/test_heun.py",),
        (
            wrong(
                "adds the two directions instead of taking their mean",
                "(eps + eps_there) / 2",
                "eps + eps_there",
            ),
            wrong("takes the second direction alone", "(eps + eps_there) / 2", "eps_there"),
            wrong("takes the first direction alone: that is Euler's step", "(eps + eps_there) / 2", "eps"),
        ),
    ),
)
