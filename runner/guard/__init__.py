"""The guard: supervises the worker process of a runner from the parent process.

- `evaluation_record`: shared memory that shows what the child evaluates.
- `watchdog`: samples the child's CPU time and memory, and decides from both whether to kill the child.
- `exits`: attributes an exit to an execution, and calls the router on behalf of a child that can't.
- `worker_process`: one child process with its control channel and record; `process_starter`: starts such processes.
- `supervisor`: restarts the child, with backoff.

Nothing here evaluates expressions or holds work, so no flow can block it.
"""
