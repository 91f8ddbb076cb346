r"""The architecture, enforced on the source with `ast`; of ours only the table of contents is imported.

An import may only point to a lower layer, or stay in its own folder. Each module is in one chapter, and no chapter
shows a module before what it imports. Imports inside functions count like those at the top.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldm.chapters import CHAPTERS, GROUND, reading_order

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "ldm"

# Layer of each module or folder directly under ldm/. The package itself ("") hands out names: the top layer.
LAYERS = {
    "chapters": 0, "errors": 0, "notes": 0, "arguments": 0, "files": 0, "config": 0, "images": 0,
    "nn": 1,
    "text": 2, "diffusion": 2, "unet": 2, "vae": 2, "postcards": 2,
    "adapters": 3, "networks": 3, "options": 3, "pipeline": 3, "prompts": 3, "image_to_image": 3, "inpaint": 3,
    "windows": 3, "hires": 3, "previews": 3, "refiner": 3, "plane": 3,
    "backend": 4, "checkpoints": 4,
    "loading": 5, "train": 5,
    "lab": 6, "lab.trace": 6, "lab.evaluate": 6, "lab.verify": 6, "lab.bench": 6, "lab.exercises": 6,
    "lab.playground": 6, "lab.museum": 6,
    "cli": 7, "__main__": 7, "": 7,
}  # fmt: skip

# In these layers modules may use one another: the bottom (errors serve all), the pipeline (which stands on its helpers)
# and the top (one front door).
SHARED_LAYERS = {0, 3, 7}

CORE_DEPENDENCIES = {
    "torch", "numpy", "einops", "regex", "ftfy", "PIL", "tqdm", "safetensors", "jaxtyping",
    "matplotlib",
}  # fmt: skip


# What some folder needs beyond them: an extra in pyproject.toml.
EXTRAS = {"lab.playground": {"onnx", "onnxscript"}}


def find_modules(package: Path) -> dict[str, Path]:
    r"""Dotted name -> file of every module in a package folder; a folder's `__init__` goes by its name."""
    modules = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


def imported_names(module: str, file: Path) -> Iterator[str]:
    r"""Every dotted name a file imports, anywhere in it, made absolute: `from a import b` gives `a.b`."""
    folder = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = folder.split(".")[: len(folder.split(".")) - max(node.level - 1, 0)] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # a name put together while running cannot be read here: `__init__` hands out names that way
            texts = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            yield from (f"{folder}{text}" if text.startswith(".") else text for text in texts)


def own_imports(module: str, modules: dict[str, Path]) -> set[str]:
    r"""The modules of the same package that one module imports: for each name its longest known prefix."""
    found = set()
    for name in imported_names(module, modules[module]):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", module}


def unit(module: str) -> str:
    r"""The module or folder directly under the package that a module belongs to, of lab/ the folder in that; "" for
    the package."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["lab"] else 1])


def layer_violations(package: Path) -> list[str]:
    r"""One line for each import that points upward or sideways, and for each module without a layer."""
    modules = find_modules(package)
    wrong = [f"{name}: give it a layer in LAYERS" for name in modules if unit(name) not in LAYERS]
    if wrong:
        return wrong
    for source in modules:
        for target in sorted(own_imports(source, modules)):
            here, there = LAYERS[unit(source)], LAYERS[unit(target)]
            same = unit(source) == unit(target) or (here == there and here in SHARED_LAYERS)
            if not same and there >= here:
                way = "upward" if there > here else "sideways"
                wrong.append(f"{source} (layer {here}) imports {target} (layer {there}): {way}")
    return wrong


def order_violations(
    package: Path, order: tuple[str, ...], ground: frozenset[str] = frozenset()
) -> list[str]:
    r"""One line for each module missing from a reading order, named twice, unknown, or shown too early.

    `ground`: the modules that others may use before they are shown.
    """
    modules = find_modules(package)
    chapters = {name for name, file in modules.items() if file.name not in ("__init__.py", "__main__.py")}
    wrong = [f"{name}: not in the reading order" for name in sorted(chapters - set(order))]
    wrong += [f"{name}: in the reading order, but no module" for name in sorted(set(order) - chapters)]
    wrong += [f"{name}: in the reading order twice" for name in sorted(set(order)) if order.count(name) > 1]
    place = {name: i for i, name in enumerate(order)}
    for source in order:
        if source in chapters:
            for target in sorted(behind_packages(own_imports(source, modules), modules) - ground):
                if place.get(target, -1) > place[source]:
                    wrong.append(f"{source} comes before {target}, which it imports")
    return wrong


def behind_packages(names: set[str], modules: dict[str, Path]) -> set[str]:
    r"""The same names, with each folder's `__init__` replaced by what it imports in turn."""
    seen, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            if modules[name].name == "__init__.py":
                todo.extend(own_imports(name, modules))
    return seen


def test_imports_point_to_a_lower_layer_or_stay_in_their_folder():
    assert layer_violations(PACKAGE) == []


def test_every_module_is_in_one_chapter_and_after_what_it_imports():
    ground = frozenset(GROUND.full_names)
    assert order_violations(PACKAGE, reading_order(), ground) == []


def test_no_chapter_imports_the_backend():
    modules = find_modules(PACKAGE)
    for chapter in CHAPTERS:
        for name in chapter.full_names:
            assert not {unit(target) for target in own_imports(name, modules)} & {"backend", "loading"}, name


def test_only_core_dependencies_are_imported():
    for module, file in find_modules(PACKAGE).items():
        outside = {name.partition(".")[0] for name in imported_names(module, file)} - {"ldm"}
        strangers = (
            outside - CORE_DEPENDENCIES - set(sys.stdlib_module_names) - EXTRAS.get(unit(module), set())
        )
        assert not strangers, f"{module} imports {strangers}"
        if unit(module) == "postcards":
            assert not outside & (CORE_DEPENDENCIES - {"numpy", "PIL"}), f"{module} imports {outside}"


def test_no_module_holds_buffers():
    # A model built on the meta device and filled with load_state_dict(assign=True) must be complete.
    for module, file in find_modules(PACKAGE).items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                assert called not in ("register_buffer", "Buffer"), f"{module}, line {node.lineno}"


@pytest.mark.parametrize(
    "code",
    [
        "import ldm",
        "import ldm.config",
        "import runpy, sys; sys.argv = ['ldm', '--help']; runpy.run_module('ldm', run_name='__main__')",
    ],
)
def test_importing_the_package_and_asking_for_help_do_not_import_torch(code):
    watch = "import atexit, sys; atexit.register(lambda: print('torch:', 'torch' in sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", watch + code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "torch: False"


def fake_package(folder: Path, **sources: str) -> Path:
    r"""A small package named ldm; a key `nn__attention` becomes the file nn/attention.py."""
    for name in {"init", *sources}:
        file = folder / "ldm" / (name.replace("__", "/") + ".py" if name != "init" else "__init__.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(sources.get(name, ""))
    for inner in {file.parent for file in (folder / "ldm").rglob("*.py")}:
        (inner / "__init__.py").touch()
    return folder / "ldm"


@pytest.mark.parametrize(
    ("module", "source", "way"),
    [
        ("nn__attention", "from ldm.unet.unet import UNet", "upward"),
        ("nn__attention", "def f():\n    import ldm.pipeline", "upward"),
        ("nn__attention", "import ldm", "upward"),
        ("nn__attention", "from .. import pipeline", "upward"),
        ("nn__attention", "import importlib\nimportlib.import_module('ldm.pipeline')", "upward"),
        ("vae__vae", "from ldm.unet import unet", "sideways"),
        ("vae__vae", "from ..unet.unet import UNet", "sideways"),
        ("checkpoints__latents", "if True:\n    from ldm.backend.cpu import f", "sideways"),
    ],
)
def test_a_planted_import_in_the_wrong_direction_is_found(tmp_path, module, source, way):
    house = {"unet__unet": "", "pipeline": "", "backend__cpu": "", "config": "", module: source}
    [found] = layer_violations(fake_package(tmp_path, **house))
    assert found.startswith(f"ldm.{module.replace('__', '.')} ") and found.endswith(way)


def test_imports_in_the_right_direction_are_not_blamed(tmp_path):
    pipeline = "from ldm.unet.unet import UNet\nfrom .config import Config\nimport torch"
    house = {"config": "import ldm.errors", "errors": "", "unet__unet": "from .embedding import f"}
    house |= {"unet__embedding": "from ldm import config", "pipeline": pipeline}
    assert layer_violations(fake_package(tmp_path, **house)) == []


def test_a_module_without_a_layer_is_found(tmp_path):
    [found] = layer_violations(fake_package(tmp_path, novelty=""))
    assert found.startswith("ldm.novelty:")


def test_a_wrong_reading_order_is_found(tmp_path):
    package = fake_package(tmp_path, config="", unet__unet="from ldm.config import x", errors="")
    good = ("ldm.errors", "ldm.config", "ldm.unet.unet")
    assert order_violations(package, good) == []
    [late] = order_violations(package, ("ldm.errors", "ldm.unet.unet", "ldm.config"))
    assert late == "ldm.unet.unet comes before ldm.config, which it imports"
    [missing] = order_violations(package, good[1:])
    assert missing.startswith("ldm.errors: not in")
    assert len(order_violations(package, (*good, "ldm.errors"))) == 1
    assert (
        order_violations(package, ("ldm.errors", "ldm.unet.unet", "ldm.config"), frozenset({"ldm.config"}))
        == []
    )
    [unknown] = order_violations(package, (*good, "ldm.nothing"))
    assert unknown.startswith("ldm.nothing: in the reading order, but")
