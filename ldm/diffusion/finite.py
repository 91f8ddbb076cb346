r"""Where the first NaN came from.

One number that is not a number (0/0; or beyond float16's 65504, infinity minus infinity) spreads through a network to
every output, and becomes a black image. So outputs are checked, which costs next to nothing. Only when one is bad is
the same call run again, with a forward hook on every module, to find the first non-finite output. (A GPU works ahead of
Python; the check makes Python wait for it, once a step.)
"""

from collections.abc import Callable, Iterator
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from ldm.diffusion.level import Level
from ldm.diffusion.sample import Denoise, Step
from ldm.errors import LdmError
from ldm.nn.hooks import add_hook


def first_bad_module(model: nn.Module, compute: Callable[[], object]) -> str | None:
    """Run `compute` and return the dotted name of the first module of `model` with a non-finite output, or None.

    Hooks fire innermost first, so the first name recorded is the culprit.
    """
    bad: list[str] = []

    def listen(name: str, module: nn.Module, inputs: object, output: object) -> None:
        outputs = output if isinstance(output, tuple | list) else (output,)
        if not bad and not all(o.isfinite().all() for o in outputs if isinstance(o, Tensor)):
            bad.append(name)

    hooks = [add_hook(m, partial(listen, name)) for name, m in model.named_modules()]
    try:
        compute()
    finally:
        for hook in hooks:
            hook.remove()
    return bad[0] if bad else None


def not_finite(where: str, model: nn.Module, *calls: Callable[[], object]) -> LdmError:
    """The error to raise: `where` it was seen, and in which module it first appears when `calls` are run again."""
    name = next(filter(None, (first_bad_module(model, call) for call in calls)), None)
    if name is None:
        source = "from no module, so from the arithmetic between them"
    elif any(not p.isfinite().all() for p in model.get_submodule(name).parameters(recurse=False)):
        source = f"from {name}, whose weights are not finite themselves"
    else:
        source = f"from {name}"
    other = "another VAE (vae=..., --vae FILE)" if (name or "").startswith("vae.") else "other weights"
    return LdmError(
        f"NaN or infinite numbers {where}, first {source}; expected finite ones: try float32, less guidance, "
        f"or {other}"
    )


def finite(compute: Callable[[], Float[Tensor, "..."]], model: nn.Module, where: str) -> Float[Tensor, "..."]:
    """What `compute` gives. Raises `LdmError` if it is not all finite, naming the module of `model` to blame."""
    out = compute()
    if not out.isfinite().all():
        raise not_finite(where, model, compute)
    return out


def finite_steps(
    sampling: Callable[[Denoise], Iterator[Step]], denoise: Denoise, model: nn.Module, count: int
) -> Iterator[Step]:
    """The steps of `sampling(denoise)`, `count` of them. Raises `LdmError` at the first one that is not finite.

    A step may evaluate the network more than once, and at other points than x_t: `sampling` is given a `denoise` that
    remembers its evaluations since the last good step.
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
