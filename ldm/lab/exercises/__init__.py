r"""Write it yourself: functions of this package as exercises, checked by the package's own tests.

Nothing is kept twice: a stub is cut from the live source on demand, the tests are the component's own, and the solution
is the live code. `exercises.json` lists the functions with their typical mistakes.
"""
