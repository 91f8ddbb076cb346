r"""Put the tiny model into the wheel, as `ldm/weights/tiny`.

A hook rather than a `force-include` entry, for two reasons: an editable install must not copy the weights
(it reads them from `weights/` in the working tree), and a tree without them must still install.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TinyWeights(BuildHookInterface):
    r"""Called by hatchling before it builds a wheel; `version` is "standard" or "editable"."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        tiny = Path(self.root, "weights", "tiny")
        if version == "standard" and tiny.is_dir():
            build_data["force_include"][str(tiny)] = "ldm/weights/tiny"
