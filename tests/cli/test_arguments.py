r"""Options that several commands share."""

import argparse

from ldm.cli.arguments import add_sampling
from ldm.diffusion.samplers import SAMPLERS


def test_help_names_every_sampler():
    parser = argparse.ArgumentParser()
    add_sampling(parser)
    [help] = [action.help for action in parser._actions if "--sampler" in action.option_strings]
    names, karras = help.split("; from ")
    named = names.split(", ")
    first = karras.split()[0]
    assert {*named, *(f"{name}_karras" for name in named[named.index(first) :])} == set(SAMPLERS)
