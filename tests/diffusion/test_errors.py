r"""What errors say of functions that are exercises too: an answer may say it in other words."""

import pytest

from ldm.diffusion.predict import training_target, x0_and_eps
from ldm.diffusion.samplers.ddim import ddim_step
from ldm.errors import LdmError
from ldm.nn.resnet import ResBlock
from tests.diffusion.made import one, vp


def test_errors_say_what_was_got_and_what_was_expected():
    with pytest.raises(LdmError, match="eta is 1.5; expected 0"):
        ddim_step(one(1), one(1), vp(0.3), vp(0.7), 1.5, one(0))
    with pytest.raises(LdmError, match=r"eta is 0.5, so this step adds noise, and was given none"):
        ddim_step(one(1), one(1), vp(0.3), vp(0.7), 0.5)
    with pytest.raises(LdmError, match="'noise'; expected 'eps', 'v' or 'x0'"):
        x0_and_eps("noise", one(1), one(1), vp(0.3))
    with pytest.raises(LdmError, match="'noise'; expected 'eps', 'v' or 'x0'"):
        training_target("noise", one(1), one(1), one(0.3).flatten())
    with pytest.raises(LdmError, match="needs the time embedding"):
        ResBlock(4, 4, groups=2, eps=1e-5, time_width=6).double()(one(1).expand(1, 4, 2, 2))
