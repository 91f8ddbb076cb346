r"""Find the module that produced the first NaN: a debugging aid, which the pipeline can be read without.

A single NaN (from 0/0, or from infinity minus infinity once a value exceeds float16's 65504) spreads through a network
to every output and gives a black image. So outputs are checked, which costs little: on a GPU, one synchronisation per
step. Only if an output is not finite is the same call run again, with a forward hook on every module, to find the first
non-finite output.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from torch import Tensor, nn

from ldm.diffusion.level import Level
from ldm.diffusion.sample import Denoise, Step
from ldm.errors import LdmError
from ldm.nn.hooks import hooks

Output = TypeVar("Output", Tensor, tuple[Tensor, Tensor | None])


def first_bad_module(model: nn.Module, compute: Callable[[], object]) -> str | None:
    """Run `compute` and return the dotted name of the first module of `model` with a non-finite output, or None.

    Hooks fire innermost first, so that is the innermost module with such an output.
    """
    bad: list[str] = []

    def listen(name: str, module: nn.Module, inputs: object, output: object) -> None:
        outputs = output if isinstance(output, tuple | list) else (output,)
        if not bad and not all(o.isfinite().all() for o in outputs if isinstance(o, Tensor)):
            bad.append(name)

    with hooks((module, partial(listen, name)) for name, module in model.named_modules()):
        compute()
    return bad[0] if bad else None


def not_finite(where: str, model: nn.Module, *calls: Callable[[], object]) -> LdmError:
    """The error to raise: `where` a NaN was seen, and the module that first outputs one when `calls` are repeated."""
    name = next(filter(None, (first_bad_module(model, call) for call in calls)), None)
    if name is None:
        source = "from arithmetic outside all modules"
    elif any(not p.isfinite().all() for p in model.get_submodule(name).parameters(recurse=False)):
        source = f"from {name}, whose weights are not finite themselves"
    else:
        source = f"from {name}"
    other = "another VAE (vae=..., --vae FILE)" if (name or "").startswith("vae.") else "other weights"
    return LdmError(
        f"NaN or infinite numbers {where}, first {source}; expected finite ones: try float32, less guidance, "
        f"or {other}"
    )


def finite(compute: Callable[[], Output], model: nn.Module, where: str) -> Output:
    """The output of `compute`. Raises `LdmError` if it is not all finite, naming the module of `model` to blame."""
    out = compute()
    outputs = out if isinstance(out, tuple) else (out,)
    if not all(tensor.isfinite().all() for tensor in outputs if tensor is not None):
        raise not_finite(where, model, compute)
    return out


def finite_steps(
    sampling: Callable[[Denoise], Iterator[Step]], denoise: Denoise, model: nn.Module, count: int
) -> Iterator[Step]:
    """The steps of `sampling(denoise)`, `count` of them. Raises `LdmError` at the first one that is not finite.

    A step may evaluate the network more than once, not only at x_t: `sampling` is given a `denoise` that remembers the
    evaluations since the last finite step.
    """
    evaluations: list[tuple[Tensor, Level]] = []

    def watched(x_t: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        evaluations.append((x_t, level))
        return denoise(x_t, level)

    for number, step in enumerate(sampling(watched), start=1):
        if not step.x_prev.isfinite().all():
            again = (partial(denoise, *inputs) for inputs in evaluations)
            raise not_finite(f"at step {number} of {count} (t = {step.level.t:g})", model, *again)
        evaluations.clear()
        yield step
