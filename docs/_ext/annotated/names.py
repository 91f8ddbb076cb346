r"""What there is to point at: every module of `ldm/`, what it defines, and who imports whom; read with `ast`.

Prose mentions things in backticks. A mention that is a name of ours becomes a link to its page, and a mention that
begins like one (`ldm.` or `ldm/` or `tests/`) and leads nowhere is a warning, so a renamed module cannot leave its old
name behind in a docstring.
"""

import ast
import re
import runpy
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from annotated.rows import definitions

PACKAGE = "ldm"
NOTEBOOK = r"notebooks/\d\d_\w+\.ipynb"
# Other Python files that have a page each: what the site says is computed, where it is computed.
BESIDES = ("tests/equations/test_*.py", "docs/answers.py", "docs/outputs.py")


@dataclass(frozen=True)
class Module:
    """One file: its dotted name, its page, and the names in it."""

    name: str
    path: str  # from the repository's root, with forward slashes
    doc: str  # the docstring's first sentence
    defines: dict[str, str]  # functions, classes, methods, constants, fields -> anchor on the page
    imports: dict[str, tuple[str, str | None]]  # local name -> (module, name in it)

    @property
    def page(self) -> str:
        return self.path.removesuffix(".py")

    @property
    def uses(self) -> list[str]:
        """The modules of ours that this one imports, each once, in order."""
        return list(dict.fromkeys(module for module, _ in self.imports.values()))


@dataclass(frozen=True)
class Names:
    """All modules, by dotted name; a package goes by its own name, as when it is imported."""

    root: Path
    modules: dict[str, Module]
    groups: list[tuple[str, list[str]]]  # the chapters: (heading, modules)
    users: dict[str, list[str]] = field(default_factory=dict)
    notebooks: dict[str, list[str]] = field(default_factory=dict)  # by module: those that import from it
    besides: dict[str, Module] = field(default_factory=dict)  # pages of Python that is not of the package

    @property
    def pages(self) -> list[Module]:
        return [*self.modules.values(), *self.besides.values()]

    def on_page(self, page: str) -> Module | None:
        """The module that a page shows, if it shows one."""
        return next((m for m in self.pages if m.page == page), None)

    def chapters(self) -> list[tuple[str, list[str]]]:
        """The reading order with each package's own page before the first of its modules: all of ldm/, once each."""
        groups: list[tuple[str, list[str]]] = []
        seen = {PACKAGE}
        for title, modules in self.groups:
            listed: list[str] = []
            for module in modules:
                parts = module.split(".")
                above = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
                listed += [m for m in above if m not in seen and m not in listed]
            groups.append((title, listed))
            seen.update(listed)
        groups[0][1].insert(0, PACKAGE)
        groups[-1][1].append(f"{PACKAGE}.__main__")
        return groups

    def find(self, mention: str, module: Module | None) -> tuple[str, str] | None:
        """The (page, anchor) that a mention means, seen from a module's page; None if it means none of ours."""
        text = re.sub(r"\(.*\)$", "", mention.strip(), flags=re.DOTALL).rstrip("/")
        for path in (text, f"{PACKAGE}/{text}"):
            for candidate in (path, f"{path}/__init__.py"):
                for m in self.pages:
                    if candidate == m.path and "/" in text:
                        return m.page, ""
        if re.fullmatch(NOTEBOOK, text) and (self.root / text).is_file():
            return text.removesuffix(".ipynb"), ""
        dotted = self._dotted(text)
        if dotted or not re.fullmatch(r"[A-Za-z_][\w.]*", text):
            return dotted
        if module and text in module.defines:
            return module.page, module.defines[text]
        if module and text in module.imports:
            home, name = module.imports[text]
            return self._dotted(f"{home}.{name}" if name else home)
        # Elsewhere a class is known by its name, if only one has it.
        homes = [m for m in self.modules.values() if text in m.defines]
        return (homes[0].page, homes[0].defines[text]) if len(homes) == 1 and text[0].isupper() else None

    def _dotted(self, text: str) -> tuple[str, str] | None:
        parts = text.split(".")
        for cut in range(len(parts), 0, -1):
            home, name = self.modules.get(".".join(parts[:cut])), ".".join(parts[cut:])
            if home is None:
                continue
            if not name:
                return home.page, ""
            if name in home.defines:
                return home.page, home.defines[name]
            if name in home.imports:  # handed on, as a package's __init__ does
                elsewhere = ".".join(filter(None, home.imports[name]))
                return self._dotted(elsewhere) if elsewhere != text else None
            return None
        return None

    def is_broken(self, mention: str) -> bool:
        """Whether a mention looks like ours, without being found (`find` gave None)."""
        text = mention.strip().partition("(")[0].partition(":")[0]
        if re.fullmatch(rf"{PACKAGE}\.[\w.]+", text):
            return True
        if re.fullmatch(rf"({PACKAGE}|tests|docs)/[\w./*-]+", text):
            places = (
                self.root,
                self.root / "tests",
            )  # docs/mutants.md names tests by their path within tests/
            return not any(any(place.glob(text.rstrip("/"))) for place in places)
        return False


def read_names(root: Path) -> Names:
    files = sorted((root / PACKAGE).rglob("*.py"))
    modules = {m.name: m for m in (_read_module(root, file) for file in files)}
    users = defaultdict(list)
    for module in modules.values():
        for used in module.uses:
            users[used].append(module.name)
    notebooks = defaultdict(list)
    for file in sorted(root.glob("notebooks/[0-9]*.py")):
        for used in _read_module(root, file).uses:
            notebooks[used].append(f"notebooks/{file.stem}.ipynb")
    besides = (_read_module(root, file) for pattern in BESIDES for file in sorted(root.glob(pattern)))
    groups = read_groups(root / PACKAGE / "chapters.py")
    return Names(root, modules, groups, users, notebooks, {m.name: m for m in besides})


def _read_module(root: Path, file: Path) -> Module:
    path = file.relative_to(root).as_posix()
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    sentence = re.split(r"(?<=[.?!])\s", " ".join((ast.get_docstring(tree) or "").split()) + " ")[0]
    imports: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                # `from ldm.train import loop` names a module, `from ldm.train.loop import run` a function in one
                inner = f"{node.module}.{alias.name}".replace(".", "/")
                is_module = (root / f"{inner}.py").exists() or (root / inner / "__init__.py").exists()
                home = (inner.replace("/", "."), None) if is_module else (str(node.module), alias.name)
                imports[alias.asname or alias.name] = home
    return Module(name, path, sentence, _defined(tree), imports)


def _defined(tree: ast.Module) -> dict[str, str]:
    """What a module defines, with its anchor: a definition's own name, or the line of a constant or field."""
    found = {}
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for statement in [node, *inner]:
            targets = (
                statement.targets
                if isinstance(statement, ast.Assign)
                else [getattr(statement, "target", None)]
            )
            owner = "" if statement is node else prefix
            found |= {owner + t.id: f"L{statement.lineno}" for t in targets if isinstance(t, ast.Name)}
    return found | {name: name for name, _ in definitions(tree)}


def read_groups(chapters: Path) -> list[tuple[str, list[str]]]:
    """The headings of `ldm/chapters.py` in the tree that is shown, and the modules below each."""
    return [
        (heading, list(chapter.full_names))
        for heading, chapter in runpy.run_path(str(chapters))["headings"]()
    ]
