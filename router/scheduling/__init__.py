"""The scheduler: readiness, fairness, per-flow limits, leases, attempts. Pure: no I/O, no clock, no storage.

- `shard`: the facade that the rest of the router uses; its docstring draws the states of an execution.
- `runner_membership`: runner membership, and leases lost with a runner; `lost_leases`: lost leases a runner may still
  explain.
- `execution_state`: the state of each execution, and the attempts charged to it.
- `changes`: results of the core's operations.
- `queues`: ready executions by flow, drawn fairly.
- `leases`: leases and their fencing tokens.
- `timer_queue`: the timer queue of parked executions.
- `ordering_keys`: executions that must run one after another.
- `subscriptions`: events and ends of executions that parked executions wait for.
- `event_buffer`: a buffer of events that have no subscriber yet.
- `matching`: matches events against filters.

Time is monotonic, a float of seconds that callers pass in; only wake times are wall-clock times, in Unix milliseconds.
The package is tested with a fake clock and hypothesis (tests/unit/router/scheduling).
"""
