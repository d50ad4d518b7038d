"""The local cluster of `flowhook up`: starts processes, watches and restarts them, and drains them in order.

`child` is one running process, `keeper` keeps one running, `cluster` knows the order of things, `applying` has the
flows applied, `plan` says what to start (`settings` how people ask for it), `rundir` the files that tell others about
it. Nothing here imports a process's code: processes are started as commands, all at once, import their code side by
side and then wait for the rest of their settings (`cli.supervised`).

Invariants: no process outlives the supervisor, however it dies (see `flowhook.process`). What `__main__` imports stays
small: it lives as long as the cluster. No deadline judges a start: what takes long is told, and waited for.
"""

from typing import Final

PLAN: Final = "FLOWHOOK_UP_PLAN"
"""Environment variable: the plan, as `flowhook up` hands it to the process that it becomes."""
