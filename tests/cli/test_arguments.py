r"""Options that several commands share."""

from ldm.cli.arguments import SAMPLERS, WITH_KARRAS
from ldm.diffusion import samplers


def test_the_samplers_that_help_names_are_those_that_there_are():
    assert {*SAMPLERS, *(f"{name}_karras" for name in WITH_KARRAS)} == set(samplers.SAMPLERS)
