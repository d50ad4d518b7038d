"""The child process: attaches to the router and executes flows.

- `process`: runs the child, started by itself or forked by `fork_server`; `app`: its composition root.
- `attach_client`: maintains the Attach stream.
- `execution_driver`: drives the interpreter; `quarantine_driver`: drives it for flows whose expressions are evaluated
  in separate processes. `effect_calls`: the calls in flight; `effect_executor`: performs one.
- `standalone`: runs one document without a router. `cluster_components`: `emit` and `run.workflow`, with one or not.
- `router_reads`: fetches flows, secrets and stored bodies from the router; `preparation`: builds the input.

The child may be killed at any moment (the guard kills runaway expressions), so nothing here may rely on a clean exit.
"""
