"""How long everything takes, and how much memory: measured in fresh processes, and beside diffusers if it is there.

Two arms measure the same cases, each in its own way: `ldm.lab.bench.ours` here, and one that uses the reference
libraries, which this package never imports (`tests/lab/bench/theirs.py`). Both read the same model, whose weights are
random: what the numbers are makes no difference to the time that it takes to multiply them. A third arm,
`ldm.lab.bench.without`, leaves out one optimisation at a time, to show what each gives.
"""
