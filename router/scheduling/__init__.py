"""The scheduler: readiness, fairness, per-flow limits, leases, attempts. Pure: no I/O, no clock, no storage.

`shard` is the facade that the rest of the router uses; its docstring draws the states of an execution. It is composed
of parts, each with its own state; an import points from a part only to those before it in this list:

- `queues`: executions without a lease: ready ones by flow, drawn fairly, blocked, waiting and suspended ones.
- `leases`: leases and their fencing tokens, the attached runners and their credit, and the results of operations.
  `pending_transitions`: executions between two states.
- `losses`: takes leases away, and charges for it; what a runner may still explain.
- `recovered`: executions found at a start that a runner may still claim.

Independent of the shard:

- `matching`: matches events against filters.
- `subscriptions`: what parked executions wait for, and a buffer of events that have no subscriber yet.

Time is monotonic, a float of seconds that callers pass in; only wake times are wall-clock times, in Unix milliseconds.
The package is tested with a fake clock and hypothesis (tests/unit/router/scheduling).
"""
