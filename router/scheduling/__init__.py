"""The scheduler: readiness, fairness, per-flow limits, leases, attempts. Pure: no I/O, no clock, no storage.

`shard` is the facade that the rest of the router uses; its docstring draws the states of an execution. It is composed
of parts, each with its own state; an import points from a part only to those before it in this list:

- `queues`: ready executions by flow, drawn fairly. `ordering_keys`: executions that must run one after another.
- `timer_queue`: the timer queue of parked executions.
- `pending_transitions`: executions between two states.
- `attempts`: attempts charged to executions.
- `leases`: leases and their fencing tokens. `runners`: attached runners and their credit.
- `changes`: results of the core's operations.
- `lost_leases`: lost leases a runner may still explain.
- `loss_accounting`: takes leases away, and charges for it.
- `recovered`: executions found at a start that a runner may still claim.
- `assigner`: assigns ready executions to runners.

Independent of the shard:

- `matching`: matches events against filters.
- `subscriptions`: events and ends of executions that parked executions wait for.
- `event_buffer`: a buffer of events that have no subscriber yet.

Time is monotonic, a float of seconds that callers pass in; only wake times are wall-clock times, in Unix milliseconds.
The package is tested with a fake clock and hypothesis (tests/unit/router/scheduling).
"""
