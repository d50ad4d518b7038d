"""The child: attaches to the router and does the work.

`process` runs it, started by `__main__` or forked by `fork_server`; `app` is its composition root; `attach` keeps the
stream, `executions` drives the interpreter and calls components, `quarantine` drives it for flows whose expressions
are evaluated apart, `flows` and `secrets` fetch what executions need, `bridge` speaks protobuf.

It may be killed at any moment (the guard does so to runaway expressions), so nothing here may rely on a tidy end.
"""
