"""The child process: attaches to the router and executes flows.

- `process`: runs the child, started by `__main__` or forked by `fork_server`; `app`: its composition root.
- `attach`: maintains the Attach stream; `bridge`: converts its messages to and from protobuf.
- `executions`: drives the interpreter and calls components; `quarantine`: drives it for flows whose expressions are
  evaluated in separate processes.
- `flows`, `secrets` and `bodies`: fetch what executions need from the router.

The child may be killed at any moment (the guard kills runaway expressions), so nothing here may rely on a clean exit.
"""
