"""Latent diffusion you can read.

    import ldm
    model = ldm.load("tiny")
    model.generate("a dog with glasses", seed=42)[0].save("dog.png")

The package reads in the order in which a picture is made; `READING_ORDER` is its table of contents.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm.loading import load, load_clip
    from ldm.pipeline import LatentDiffusion

__version__ = "0.1.0"
__all__ = ["LatentDiffusion", "load", "load_clip"]

# A module stands after everything it imports (a test checks it): reading downwards, nothing is used unexplained.
READING_ORDER = (
    # The ground: errors, files, sizes, pictures, letters.
    "ldm.errors",
    "ldm.arguments",
    "ldm.paths",
    "ldm.leftovers",
    "ldm.files",
    "ldm.config",
    "ldm.threads",
    "ldm.pixels",
    "ldm.inputs",
    "ldm.lettering",
    # Text becomes a context.
    "ldm.text.words",
    "ldm.text.merges",
    "ldm.text.tokenizer_files",
    "ldm.text.tokenizer",
    "ldm.text.bpe",
    "ldm.text.unknown",
    "ldm.nn.hooks",
    "ldm.nn.attention",
    "ldm.text.transformer",
    "ldm.text.encoder",
    "ldm.text.weighting",
    "ldm.text.syntax",
    "ldm.text.prompt",
    # Where the text encoder comes from; painting does without.
    "ldm.text.image",
    "ldm.text.clip",
    # Noise becomes a latent: the process, then the network that reverses it.
    "ldm.diffusion.noise",
    "ldm.diffusion.schedule",
    "ldm.diffusion.level",
    "ldm.diffusion.predict",
    "ldm.diffusion.guidance",
    "ldm.diffusion.sample",
    "ldm.diffusion.samplers.ddpm",
    "ldm.diffusion.samplers.ddim",
    "ldm.diffusion.samplers.euler",
    "ldm.diffusion.samplers.euler_ancestral",
    "ldm.diffusion.samplers.heun",
    "ldm.diffusion.samplers.plms",
    "ldm.diffusion.samplers.lms",
    "ldm.diffusion.samplers.dpmpp_2m",
    "ldm.diffusion.samplers.table",
    "ldm.diffusion.spacing",
    "ldm.nn.resnet",
    "ldm.unet.embedding",
    "ldm.unet.transformer",
    "ldm.unet.unet",
    # A latent becomes pixels.
    "ldm.vae.mid",
    "ldm.vae.encoder",
    "ldm.vae.decoder",
    "ldm.vae.vae",
    "ldm.vae.tiles",
    # The four steps in order; what a picture says about how it was made.
    "ldm.finite",
    "ldm.repaint",
    "ldm.pipeline",
    "ldm.record",
    # Seeing inside while it paints.
    "ldm.trace.recorder",
    "ldm.trace.film",
    "ldm.trace.heat",
    "ldm.trace.latents",
    "ldm.trace.report",
    "ldm.trace.passes",
    "ldm.trace.shapes",
    "ldm.trace.page",
    "ldm.trace.explore",
    # Model files.
    "ldm.convert.notes",
    "ldm.convert.names",
    "ldm.convert.strangers",
    "ldm.convert.foreign",
    "ldm.convert.rows",
    "ldm.convert.safe",
    "ldm.convert.folder",
    "ldm.convert.archive",
    "ldm.convert.unpickle",
    "ldm.convert.pickled",
    "ldm.convert.readers",
    "ldm.convert.checkpoint",
    "ldm.convert.kinds",
    "ldm.convert.diffusers_folder",
    "ldm.convert.locating",
    "ldm.convert.opening",
    "ldm.convert.sizes",
    "ldm.convert.schedules",
    "ldm.convert.settings",
    "ldm.convert.agreement",
    "ldm.convert.plain_yaml",
    "ldm.convert.evidence",
    "ldm.convert.configure",
    "ldm.convert.fitting",
    "ldm.convert.words",
    "ldm.convert.gather",
    "ldm.convert.writing",
    "ldm.convert.known",
    "ldm.convert.inspect",
    # Making it fast on the machine at hand.
    "ldm.backend.cpu",
    "ldm.backend.allocator",
    "ldm.backend.matmul",
    "ldm.backend.memory_format",
    "ldm.backend.chunked_attention",
    "ldm.backend.fused_upsample",
    "ldm.backend.accelerate",
    "ldm.loading",
    # The captioned world that the tiny model knows.
    "ldm.postcards.attributes",
    "ldm.postcards.phrases",
    "ldm.postcards.english",
    "ldm.postcards.french",
    "ldm.postcards.captions",
    "ldm.postcards.palette",
    "ldm.postcards.shapes",
    "ldm.postcards.sky",
    "ldm.postcards.relief",
    "ldm.postcards.plants",
    "ldm.postcards.features",
    "ldm.postcards.landscape",
    "ldm.postcards.accessories",
    "ldm.postcards.portrait",
    "ldm.postcards.draw",
    "ldm.postcards.sheet",
    "ldm.postcards.series",
    # Learning it.
    "ldm.train.processes",
    "ldm.train.plot",
    "ldm.train.checkpoint",
    "ldm.train.log",
    "ldm.train.loop",
    "ldm.train.data",
    "ldm.train.own",
    "ldm.train.tokenizer",
    "ldm.train.clip",
    "ldm.train.perceptual",
    "ldm.train.adversary",
    "ldm.train.vae",
    "ldm.train.diffusion",
    "ldm.train.stages",
    # Measuring what was learned.
    "ldm.evaluate.judge",
    "ldm.evaluate.school",
    "ldm.evaluate.adherence",
    "ldm.evaluate.images",
    "ldm.evaluate.understanding",
    "ldm.evaluate.clipscore",
    "ldm.evaluate.frechet",
    "ldm.evaluate.diversity",
    "ldm.evaluate.figures",
    "ldm.evaluate.sheets",
    "ldm.evaluate.bench",
    "ldm.evaluate.chapters",
    "ldm.evaluate.report",
    # Comparing a model with what others have published.
    "ldm.verify.philox",
    "ldm.verify.figures",
    "ldm.verify.inputs",
    "ldm.verify.checks",
    "ldm.verify.run",
    # How fast it is, and how much memory it takes.
    "ldm.bench.sizes",
    "ldm.bench.model",
    "ldm.bench.stopwatch",
    "ldm.bench.rows",
    "ldm.bench.fresh",
    "ldm.bench.work",
    "ldm.bench.ours",
    "ldm.bench.without",
    "ldm.bench.machine",
    "ldm.bench.compare",
    "ldm.bench.table",
    "ldm.bench.run",
    # Writing it oneself.
    "ldm.exercises.exercise",
    "ldm.exercises.in_text",
    "ldm.exercises.in_diffusion",
    "ldm.exercises.in_networks",
    "ldm.exercises.listed",
    "ldm.exercises.cutting",
    "ldm.exercises.checking",
    # The command line.
    "ldm.cli.arguments",
    "ldm.cli.output",
    "ldm.cli.hashes",
    "ldm.cli.painting",
    "ldm.cli.new",
    "ldm.cli.many",
    "ldm.cli.unasked",
    "ldm.cli.again",
    "ldm.cli.generate",
    "ldm.cli.look",
    "ldm.cli.exercise",
    "ldm.cli.checkpoints",
    "ldm.cli.measure",
    "ldm.cli.bench",
    "ldm.cli.train",
    "ldm.cli.postcards",
    "ldm.cli.program",
)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import ldm` and `ldm --help` do not wait for torch."""
    if name == "LatentDiffusion":
        from ldm.pipeline import LatentDiffusion

        return LatentDiffusion
    if name in ("load", "load_clip"):
        from ldm import loading  # not ldm/load.py: a module of that name would take the function's place here

        return getattr(loading, name)
    raise AttributeError(f"module 'ldm' has no attribute {name!r}")
