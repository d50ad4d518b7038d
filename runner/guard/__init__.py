"""The guard: what stands outside the working process of a runner and watches it.

- `record`: the small piece of memory that both share; `usage`: what the system says of the process.
- `watch`: decides from both whether the process has to die. `exits`: concludes who is to blame for an end.
- `child`: one working process with its pipe and record; `starting`: how such processes are started.
- `reporting`: speaks to the router for a process that can't. `keeper`: keeps one alive, and backs off.

Nothing here evaluates anything or holds work, so nothing here can be made to hang.
"""
