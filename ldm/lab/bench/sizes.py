"""How large everything is that is measured."""

from dataclasses import dataclass, replace

from ldm.config import SD1, Config, Level

# About 190 characters, as people write them. "painting number i" makes each one new.
PROMPT = (
    "a photograph of an astronaut riding a horse through a quiet village in the mountains, painting number {}, "
    "golden evening light, long shadows, dust in the air, highly detailed, by an old master"
)


@dataclass(frozen=True)
class Sizes:
    """The model and the picture that both arms work on, and how often."""

    config: Config
    side: int = 512  # pixels
    steps: int = 20  # of a whole painting
    prompts: int = 2000  # for the tokenizer
    training: int = 10  # steps of training, after one to warm up
    batch: int = 32  # of training
    batches: tuple[int, ...] = (1, 2, 4, 8)  # pictures painted at once, for the throughput


FULL = Sizes(replace(SD1, image=None, embedding_width=None))
# The same model, drawn narrow: what it shows is that the benchmark works, and no more.
QUICK = Sizes(
    replace(
        FULL.config,
        text=replace(SD1.text, layers=2),
        vae=replace(SD1.vae, channels=(32, 64, 128, 128)),
        unet=replace(
            SD1.unet, levels=(Level(64, 8, 1), Level(128, 8, 1), Level(256, 8, 1), Level(256, 8, 0))
        ),
    ),
    side=128,
    steps=4,
    prompts=200,
    training=2,
    batch=8,
    batches=(1, 4),
)
