"""The runner: executes flows and journals the results of their effects.

A runner is two processes. The *parent* (`app`, `guard`) supervises and holds no work; the *child* (`worker`) attaches
to the router, evaluates expressions and makes outbound calls. A jq program that loops or allocates without bound blocks
or bloats the child, never the parent. The parent kills the child, reports the responsible execution and starts the
next child.

- `interpreter`: the DSL's semantics, pure: a document, an input and a journal in, effects out. No asyncio, no I/O.
- `evaluation`: evaluates jq and JSON Schema, compiled once, under the guard's supervision. `quarantine`: the same in a
  separate process, for flows whose expressions are slow.
- `session`: the runner's half of the Attach protocol, pure as well.
- `components`: the functions that a `call` may name. `component_names` lists them without importing them.
- `outbound`: the HTTP client that components share, with its address policy and the credentials of calls. `processes`:
  the processes that `run` tasks start.
- `local_run`: runs one document on this machine, without a cluster. `ipc`: messages between parent and child.

Must not live here: storage, HTTP towards senders, code of the other three processes.
"""
