r"""Where the first NaN came from.

One number that is not a number (0/0; or beyond float16's 65504, infinity minus infinity) spreads through a network to
every output, and becomes a black picture. So outputs are checked, which costs next to nothing; and only when one is
bad is the same call run again, with an ear at every module, for the first that says something wrong. (A GPU works ahead
of Python; the check makes Python wait for it, once a step.)
"""

from collections.abc import Callable, Iterator
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from ldm.diffusion.sampling import Denoise, Step, Time
from ldm.errors import LdmError
from ldm.nn.hooks import add_hook


def first_bad_module(model: nn.Module, compute: Callable[[], object]) -> str | None:
    """Run `compute` and give the dotted name of the first module of `model` whose output is not all finite, or None.

    A module speaks when it has finished, after its parts: the one named is the innermost, whose parts were still well.
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
    walk: Callable[[Denoise], Iterator[Step]], denoise: Denoise, model: nn.Module, count: int
) -> Iterator[Step]:
    """The steps of a sampler, `walk(denoise)`, `count` of them. Raises `LdmError` at the first that is not finite.

    A sampler may look more than once in a step, and at other points than x_t: it is handed a `denoise` that remembers
    what it was asked since the last good step.
    """
    looks: list[tuple[Tensor, Time, Tensor]] = []

    def look(x_t: Tensor, t: Time, alpha_bar_t: Tensor) -> tuple[Tensor, Tensor]:
        looks.append((x_t, t, alpha_bar_t))
        return denoise(x_t, t, alpha_bar_t)

    for number, step in enumerate(walk(look), start=1):
        if not step.x_prev.isfinite().all():
            again = (partial(denoise, *asked) for asked in looks)
            raise not_finite(f"at step {number} of {count} (t = {step.t:g})", model, *again)
        looks.clear()
        yield step
