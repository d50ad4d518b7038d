"""Traces: recomputes what each task of a stored execution was given and returned, without performing any effect.

The interpreter replays the journal on the recorded revision of the flow and the stored event, as a runner does that
takes over an execution; where the journal ends, the trace ends. Expressions run in a process of their own, which may be
killed.

- `tracer`: `ExecutionTracer`, which the caller uses: runs traces in a few sandboxes, within limits.
- `replay`: replays one execution, by the interpreter without a clock; what `$secrets` holds instead of secrets, which
  traces never see.
- `recorder`: an observer of the interpreter that collects the tasks and their values.

Must not live here: anything that performs an effect.
"""
