r"""Import one module of the package with a mistake in it. The file on disk stays as it is.

Python asks the finders in `sys.meta_path` for each module that is imported. Ours comes first, answers for one module
only, and compiles the patched source in place of the file's.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from ldm.errors import LdmError
from ldm.lab.museum.mistake import Mistake, patched


class PatchedLoader(SourceFileLoader):
    """Loads a module from other source than its file has."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class PatchedFinder(MetaPathFinder):
    """Finds the one module that has the mistake."""

    def __init__(self, mistake: Mistake) -> None:
        self.mistake = mistake

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.mistake.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return spec
        source = patched(Path(spec.origin).read_text(encoding="utf-8"), self.mistake)
        spec.loader = PatchedLoader(fullname, spec.origin, source)
        return spec


def make(mistake: Mistake) -> None:
    """From now on, in this process, the package has the mistake.

    Raises `LdmError` if the module is imported already: whoever imported it keeps the right one.
    """
    if mistake.module in sys.modules:
        raise LdmError(f"{mistake.module} is imported already; make the mistake in a process that is fresh")
    sys.meta_path.insert(0, PatchedFinder(mistake))
