r"""What to compute in, and where: the dtype and the device, as asked for or the best ones here."""

import torch

from ldm.backend.cpu import bfloat16_instructions
from ldm.errors import LdmError

DTYPES = {
    str(t).removeprefix("torch."): t for t in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
}

# Models of up to this many parameters run in full precision everywhere: they are fast enough, and nothing can overflow.
# A U-Net of as many may be copied to be faster, too.
SMALL = 100_000_000


def pick_device() -> torch.device:
    """The fastest device at hand: a CUDA card, Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def read_device(device: torch.device | str | None) -> torch.device:
    """The device asked for, or the fastest at hand. Raises `LdmError` for one that is not here."""
    if device is None:
        return pick_device()
    try:
        found = torch.empty(1, device=device).device
    except Exception as error:  # torch raises nearly any type, depending on the device and on its build
        first = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        reason = first if len(first) <= 100 else f"{first[:100]}..."  # torch may list all that exist
        raise LdmError(
            f"device {str(device)!r} is not here ({reason}); give another, such as cpu, or none to take the fastest"
        ) from error
    if found.type == "meta":
        raise LdmError("device 'meta' holds no numbers; give another, or none to take the fastest")
    return found


def read_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A dtype to compute in, given itself or by its name. Raises `LdmError` for another one."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise LdmError(f"dtype {name!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def pick_dtype(numbers: int, device: torch.device) -> torch.dtype:
    """The best dtype for so many parameters: half precision on a GPU, and on a CPU that computes in bfloat16.

    On a CPU, bfloat16 is the only fast one; on a GPU, float16 has three more binary digits. A small model runs in
    float32 everywhere.
    """
    if numbers <= SMALL:
        return torch.float32
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if bfloat16_instructions() else torch.float32
