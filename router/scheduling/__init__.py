"""The scheduler: readiness, fairness, per-flow limits, leases, attempts. Pure: no I/O, no clock, no storage.

`shard` is the facade that the rest of the router uses; its docstring draws the states of an execution. The other
modules are its parts, each with its own state; an import points from a part only to those before it in this order:
`lines`, `groups`, `places` and `rates`, `queues`, `order_keys`, `leases`, `pending_transitions`, `losses`,
`recovered`. Independent of the shard are `matching` and `subscriptions`.

Time is monotonic, a float of seconds that callers pass in; only wake times are wall-clock times, in Unix milliseconds.
The package is tested with a fake clock and hypothesis (tests/unit/router/scheduling).
"""
