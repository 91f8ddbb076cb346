r"""The museum of mistakes: one wrong line at a time, the image it makes, and how to tell it from the right one.

`mistake` says what an entry is, and `rooms/` holds the entries. To show one, `painting` generates the same image twice,
each in a process of its own (`scenes`): once with the package as it is, once with one module patched in memory
(`patched_import`). `layers` finds the first layer in which the two differ, and `symptoms` names what one sees. Nothing
that is installed is changed.
"""
