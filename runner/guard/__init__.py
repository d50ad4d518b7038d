"""The guard: supervises the worker process of a runner from the parent process.

- `record`: shared memory that shows what the child evaluates; `usage`: samples the child's CPU time and memory.
- `watch`: the watchdog, decides from both whether to kill the child. `exits`: attributes an exit to an execution.
- `child`: one child process with its control channel and record; `starting`: starts such processes.
- `reporting`: calls the router on behalf of a child that can't. `keeper`: restarts the child, with backoff.

Nothing here evaluates expressions or holds work, so no flow can block it.
"""
