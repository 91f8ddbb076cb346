r"""Write it yourself: functions of this package as exercises, checked by the package's own tests.

Nothing is kept twice. A stub is cut from the live source when it is asked for, the tests are those of the component,
and the solution is the live code. `ldm/lab/exercises/listed.py` says which functions there are, with the answers that
are typically wrong.
"""
