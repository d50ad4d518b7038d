"""The runner: executes flows and journals the results of their effects.

A runner is two processes. The *parent* (`app`, `guard`) supervises and holds no work; the *child* (`worker`) attaches
to the router, evaluates expressions and makes outbound calls. A jq program that loops or allocates without bound blocks
or bloats the child, never the parent. The parent kills the child, reports the responsible execution and starts the
next child.

- `interpreter`: the DSL's semantics, pure: a document, an input and a journal in, effects out. No asyncio, no I/O.
- `evaluator`: evaluates jq and JSON Schema, compiled once, under the guard's supervision.
- `session`: the runner's half of the Attach protocol, pure as well.
- `components`: the functions that a `call` may name. `http_client`: their shared HTTP client, with its address policy.
- `local_run`: runs one document on this machine, without a cluster.

Must not live here: storage, HTTP towards senders, code of the other three processes.
"""
