r"""The site's extension lives beside its pages, not in a package of ours: put it where it can be imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "_ext"))
