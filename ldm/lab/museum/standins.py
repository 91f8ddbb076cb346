r"""Mistakes in the presets of Stable Diffusion, made in the config of the model that is shown.

The weights of Stable Diffusion are not in this repository. What a wrong preset does can be seen all the same: the same
setting is changed in the config of another model. Where that model has the opposite setting, the mistake is shown the
other way round.
"""

from collections.abc import Callable
from dataclasses import replace

from ldm.config import Config


def heads_of_width_64(config: Config) -> Config:
    """Heads of width 64 at every level, where the model has others."""
    levels = [replace(level, heads=max(1, level.channels // 64)) for level in config.unet.levels]
    return replace(config, unet=replace(config.unet, levels=tuple(levels)))


def other_padding(config: Config) -> Config:
    """Prompts padded with zeros instead of eos, or the other way round."""
    return replace(config, text=replace(config.text, pad="zero" if config.text.pad == "eos" else "eos"))


def other_layer(config: Config) -> Config:
    """The text read one layer before the last instead of after it, or the other way round."""
    return replace(
        config, text=replace(config.text, output="penultimate" if config.text.output == "last" else "last")
    )


def other_activation(config: Config) -> Config:
    """The exact GELU instead of the quick one in the text encoder, or the other way round."""
    return replace(
        config,
        text=replace(
            config.text, activation="gelu" if config.text.activation == "quick_gelu" else "quick_gelu"
        ),
    )


def other_prediction(config: Config) -> Config:
    """What the U-Net predicts taken for v where it is eps, or for eps where it is v."""
    return replace(
        config,
        noise=replace(
            config.noise, prediction="v" if config.noise.prediction == "eps" else "eps", zero_snr=False
        ),
    )


def no_scale(config: Config) -> Config:
    """Latents neither multiplied by the VAE's scale nor divided by it."""
    return replace(config, vae=replace(config.vae, scale=1.0))


STANDINS: dict[str, Callable[[Config], Config]] = {
    standin.__name__: standin
    for standin in (
        heads_of_width_64,
        other_padding,
        other_layer,
        other_activation,
        other_prediction,
        no_scale,
    )
}
