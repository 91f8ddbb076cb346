"""The table of contents: which modules to read, in which order, and what you can do afterwards.

Chapter 0 shows the idea in the plane; the others follow an image from the prompt to the pixels. The appendices explain
everything around that: how files are read, how a model is trained, measured and made fast. README, the site,
`ldm exercise list` and `make test C=3` all take their order from here. Chapter n is `CHAPTERS[n]`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """Modules to read together."""

    title: str
    goal: str  # completes the sentence "Afterwards you can ..."
    modules: tuple[str, ...]  # without the leading "ldm.", each after those of the chapters that it imports
    notebooks: tuple[str, ...] = ()  # that go with it

    @property
    def full_names(self) -> tuple[str, ...]:
        return tuple(f"ldm.{module}" for module in self.modules)


def under(folder: str, names: str) -> tuple[str, ...]:
    """Modules of one folder: `under("vae", "mid encoder")` is ("vae.mid", "vae.encoder")."""
    return tuple(f"{folder}.{name}" for name in names.split())


CHAPTERS = (
    Chapter(
        "Why it works at all, in two dimensions",
        "say what a network that removes noise has learned, and follow points along it from noise to data",
        (
            *under("diffusion", "level guidance sample samplers.euler samplers.euler_ancestral"),
            *under("plane", "mixture shapes field"),
        ),
        ("00_plane",),
    ),
    Chapter(
        "Every size on one page",
        "read the config of Stable Diffusion 1, Stable Diffusion 2 and the tiny model, and say what each number is for",
        ("config",),
        ("00_tour",),
    ),
    Chapter(
        "From text to tokens",
        "split a prompt into tokens by hand, and learn a vocabulary from a text",
        under("text", "pretokenize bpe fast_bpe merges learned tokenizer unknown"),
        ("01_tokenizer",),
    ),
    Chapter(
        "Attention",
        "compute attention with pencil and paper, and say what self-attention and cross-attention are for",
        ("nn.attention",),
        ("04_attention",),
    ),
    Chapter(
        "From tokens to meaning: CLIP",
        "say where the vectors that guide the image come from, and how they learned what words look like",
        under("text", "transformer encoder image clip weighting prompt joint"),
        ("02_clip",),
    ),
    Chapter(
        "Adding noise",
        "add any amount of noise to an image, and say what a network can be trained to predict of it",
        under("diffusion", "noise schedule predict"),
        ("03_noise",),
    ),
    Chapter(
        "Removing noise: the samplers",
        "check a step of each sampler by hand, and write a sampler of your own in one file",
        (
            *under("diffusion.samplers", "ddpm ddim heun plms lms dpmpp_2m unipc"),
            "diffusion.brownian",
            *under("diffusion.samplers", "dpmpp_2m_sde dpmpp_sde lcm tcd table"),
            *under("diffusion", "sigmas spacing"),
        ),
        ("06_samplers",),
    ),
    Chapter(
        "The U-Net",
        "follow a latent through the network that predicts its noise, and point at the place where it reads the prompt",
        ("nn.resnet", *under("unet", "guidance_embedding embedding added transformer unet deep_cache")),
        ("05_unet",),
    ),
    Chapter(
        "The VAE",
        "say what an image loses on its way into the latent space and back, and why diffusion happens there",
        under("vae", "mid encoder decoder vae tiles tiny"),
        ("07_vae",),
    ),
    Chapter(
        "The pipeline",
        "put the four steps together: text to image, image to image, inpainting",
        (
            *under("diffusion", "conditioning micro_conditioning finite"),
            *("networks", "prompts", "image_to_image", "inpaint", "windows", "options", "pipeline", "hires"),
            "previews",
        ),
        ("08_pipeline",),
    ),
)

# Every chapter may use these modules without explaining them.
GROUND = Chapter(
    "The ground floor: errors, files, images",
    "look up how the package checks its input, reads and writes files, and handles images",
    (
        "chapters",
        "errors",
        "notes",
        "arguments",
        *under("files", "paths leftovers read_write typed_json"),
        *under("images", "pixels reading lettering"),
        "nn.hooks",
        *under("text", "tokenizer_files syntax"),
    ),
)
APPENDICES = (
    GROUND,
    Chapter(
        "LoRA: changing a trained model",
        "add what somebody else trained to a model, exactly, and take it out again",
        under("adapters", "lora dora lycoris merge tags textual_inversion"),
    ),
    Chapter(
        "ControlNet: saying where",
        "steer a model with an image of edges, and say why a network that begins with zeros learns",
        under("adapters", "controlnet hints control"),
    ),
    Chapter(
        "A refiner: two models, one image",
        "let a second model finish the sampling, and say why it may take over in the middle",
        ("refiner",),
    ),
    Chapter(
        "How model files are read",
        "say what is in a checkpoint, open any of them safely, and translate the names of its tensors",
        (
            "images.metadata",
            *under(
                "checkpoints",
                "names key_map safetensors_file folder foreign archive unpickle pickle_file formats",
            ),
            *under(
                "checkpoints", "checkpoint detect diffusers_folder locating opening infer_sizes schedules"
            ),
            *under(
                "checkpoints",
                "settings check_settings plain_yaml hints flavours infer_config validate tokenizer_io",
            ),
            *under("checkpoints", "lora_keys lora_file lora_fit embedding_file loaded collect write known"),
            *under("checkpoints", "lora_about lora_write control_file tiny_file finding inspect"),
        ),
        ("09_checkpoints",),
    ),
    Chapter(
        "How it is made fast",
        "say where the time goes on a CPU, and replace a module by a faster one that computes the same",
        (
            *under(
                "backend",
                "cpu choice threads trial allocator matmul memory_format gradients chunked_attention fused_upsample "
                "winograd accelerate int8",
            ),
            "loading",
        ),
    ),
    Chapter(
        "Looking inside",
        "watch an image form, and see which word each position attends to",
        (
            "text.positions",
            "unet.watch",
            *under("lab.trace", "recorder film heat latents report summary shapes page explore"),
        ),
    ),
    Chapter(
        "In a web page",
        "run the model in a browser, without Python and without a server",
        under("lab.playground", "graphs weights runtime page build"),
    ),
    Chapter(
        "A captioned world",
        "draw labelled images without end, and describe them in English and French",
        under(
            "postcards",
            "scene facts sampling colour canvas sky weather relief plants places things garments animals styles draw "
            "words plan english french sentences prompts typed captions altered sheet series",
        ),
    ),
    Chapter(
        "Training",
        "train a tokenizer, CLIP, a VAE and a U-Net, on these images or on your own",
        under(
            "train",
            "processes plot checkpoint log loop importance data own tokenizer clip perceptual adversary grow vae "
            "diffusion stages",
        ),
        ("10_train_your_own",),
    ),
    Chapter(
        "Measuring",
        "say how good a model is, and how each measure can mislead you",
        under(
            "lab.evaluate",
            "judge judge_training adherence controls attention_maps reconstruction understanding clipscore frechet "
            "diversity metrics sheets setup measurements behaviour report",
        ),
        ("11_evaluate",),
    ),
    Chapter(
        "Comparing with what others published",
        "prove that a model computes what the reference computes",
        under("lab.verify", "philox references inputs checks compare tiny"),
    ),
    Chapter(
        "Measuring speed and memory",
        "time a change without fooling yourself",
        under("lab.bench", "workload fresh stopwatch layers networks images cases run"),
    ),
    Chapter(
        "Exercises",
        "turn a function of your own into an exercise with tests and hints",
        under("lab.exercises", "exercise patching checking progress"),
    ),
    Chapter(
        "The museum of mistakes",
        "tell from a wrong image, and from the first layer that differs, which line of a port is wrong",
        (
            *under("lab.museum", "mistake"),
            *under(
                "lab.museum.rooms",
                "basics text unet vae sampling names loading inpainting xl adapters controlnet later ours",
            ),
            *under("lab.museum", "patched_import standins layers extended linear_vae files scenes symptoms"),
            *under("lab.museum", "painting words"),
        ),
        ("12_museum",),
    ),
    Chapter(
        "The command line",
        "find the code behind each command",
        under(
            "cli",
            "arguments output preview hashes generation controls refiner new recorded replay generate look exercise "
            "museum checkpoints measure train program",
        ),
    ),
)


def headings() -> list[tuple[str, Chapter]]:
    """All chapters and appendices with their headings: "3. From tokens to meaning: CLIP", "A. The ground floor"."""
    numbered = [(f"{i}. {chapter.title}", chapter) for i, chapter in enumerate(CHAPTERS)]
    lettered = [(f"{chr(ord('A') + i)}. {chapter.title}", chapter) for i, chapter in enumerate(APPENDICES)]
    return numbered + lettered


def reading_order() -> tuple[str, ...]:
    """The full names of all modules, chapter by chapter."""
    return tuple(name for chapter in (*CHAPTERS, *APPENDICES) for name in chapter.full_names)


def contents(root: str = "") -> str:
    """The table of contents in Markdown, as README.md has it; `root` leads from the page to the repository's root."""
    lines = ["| | chapter | afterwards you can | modules, in `ldm/` | notebook |", "|---|---|---|---|---|"]
    for heading, chapter in headings():
        number, title = heading.split(". ", maxsplit=1)
        modules = _linked(chapter.modules, root)
        notebooks = " ".join(f"[{name[:2]}]({root}notebooks/{name}.ipynb)" for name in chapter.notebooks)
        lines.append(f"| {number} | {title} | {chapter.goal} | {modules} | {notebooks} |")
    return "\n".join(lines) + "\n"


def _linked(modules: tuple[str, ...], root: str) -> str:
    """Links to the modules; where many are in one folder, a link to the folder."""
    folders: dict[str, list[str]] = {}
    for module in modules:
        folder, _, name = module.rpartition(".")
        folders.setdefault(folder, []).append(name)
    parts = []
    for folder, names in folders.items():
        if folder and len(names) > 8:
            place = folder.replace(".", "/")
            parts.append(f"[`{place}/`]({root}ldm/{place}/__init__.py)")
        else:
            places = [f"{folder.replace('.', '/')}/{name}".lstrip("/") for name in names]
            parts += [f"[`{place}`]({root}ldm/{place}.py)" for place in places]
    return " ".join(parts)


if __name__ == "__main__":
    print(contents(), end="")
