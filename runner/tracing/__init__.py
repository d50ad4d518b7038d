"""Traces: recomputes what each task of a stored execution was given and returned, without performing any effect.

The interpreter replays the journal on the recorded revision of the flow and the stored event, as a runner does that
takes over an execution; where the journal ends, the trace ends. Expressions run in a process of their own, which may be
killed.

- `tracer`: `ExecutionTracer`, which the caller uses: runs traces in a few processes, within limits.
- `process`: the program of such a process; `offloaded`: the function that it calls.
- `replay`: replays one execution; `replay_machine`: the interpreter, without a clock.
- `recorder`: an observer of the interpreter that collects the tasks; `values`: their values.
- `secret_placeholders`: what `$secrets` holds instead of secrets, which traces never see.

Must not live here: anything that performs an effect.
"""
