"""The runner: executes flows, journals what their effects returned, and is nobody's boss.

A runner is two processes. The *parent* (`app`, `guard`) watches and holds no work; the *child* (`worker`) attaches to
the router, evaluates expressions and calls the world. An endless or greedy jq program freezes or bloats the child,
never the parent, which kills it, names the culprit and starts the next one.

- `interpreter`: the DSL's semantics, pure: a document, an input and a journal in, effects out. No asyncio, no I/O.
- `evaluator`: jq, compiled once, under the eyes of the guard.
- `session`: the runner's half of the Attach protocol, pure as well.
- `components`: what a `call` may name. `outbound`: the HTTP client they share, with its address policy.
- `local`: one document run here, with no cluster.

Must not live here: storage, HTTP towards senders, anything of the other three processes.
"""
