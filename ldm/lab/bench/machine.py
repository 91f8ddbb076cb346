"""What it was measured on: figures mean nothing without."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from ldm.backend.cpu import bfloat16_instructions

CPUINFO = Path("/proc/cpuinfo")
LIBRARIES = ("torch", "diffusers", "transformers")


def machine() -> dict[str, str | int]:
    """The processor and its instructions for bfloat16, cores, memory, versions, and the threads that compute."""
    versions: dict[str, str | int] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": processor(),
        "bfloat16": bfloat16_instructions() or "none",
        "cores": os.cpu_count() or 0,
        "memory (GiB)": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        **versions,
        "threads": torch.get_num_threads(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Its name, as Linux tells it, or Python elsewhere."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
