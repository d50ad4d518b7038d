"""The local cluster of `flowhook up`: starts processes, watches and restarts them, and drains them in order.

`child` is one running process, `keeper` keeps one running, `cluster` knows the order of things, `plan` what to start,
`rundir` the files that tell others about it. Nothing here imports a process's code: processes are started as commands.

Invariant: no process outlives the supervisor, however it dies (see `flowhook.process`).
"""
