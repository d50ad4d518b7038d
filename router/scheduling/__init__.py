"""The scheduler: readiness, fairness, per-flow limits, leases, attempts. Pure: no I/O, no clock, no storage.

- `shard`: the facade that the rest of the router uses; its docstring draws the states of an execution.
- `attendance`: runner membership, and leases lost with a runner; `absences`: lost leases a runner may still explain.
- `places`: the state of each execution, and the attempts charged to it.
- `changes`: results of the core's operations.
- `queues`: ready executions by flow, drawn fairly.
- `leases`: leases and their fencing tokens.
- `waits`: the timer queue of parked executions.
- `lanes`: executions that must run one after another.
- `subscriptions`: events and ends of executions that parked executions wait for.
- `kept`: a buffer of events that have no subscriber yet.
- `matching`: matches events against filters.

Time is monotonic, a float of seconds that callers pass in; only wake times are wall-clock times, in Unix milliseconds.
The package is tested with a fake clock and hypothesis (tests/unit/router/scheduling).
"""
