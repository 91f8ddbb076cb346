r"""What the tests of measuring share: arithmetic that is the same on every machine."""

import pytest
import torch


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    r"""As on a machine without instructions for bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
