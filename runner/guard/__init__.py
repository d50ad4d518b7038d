"""The guard: what stands outside the child and watches it.

`record` is the small piece of memory that both share; `watch` decides from it and from /proc whether the child has to
die; `child` is one child process and the pipe to it; `keeper` keeps one alive, explains deaths and backs off.

Nothing here evaluates anything or holds work, so nothing here can be made to hang.
"""
