r"""Put the tiny model and its judge into the wheel, as `ldm/weights/tiny` and `ldm/weights/judge`.

A hook rather than a `force-include` entry, for two reasons: an editable install must not copy the weights
(it reads them from `weights/` in the working tree), and a tree without them must still install.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedWeights(BuildHookInterface):
    r"""Called by hatchling before it builds a wheel; `version` is "standard" or "editable"."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for name in ("tiny", "judge"):
            folder = Path(self.root, "weights", name)
            if version == "standard" and folder.is_dir():
                build_data["force_include"][str(folder)] = f"ldm/weights/{name}"
