"""What runs next: readiness, fairness, per-flow limits, leases, attempts. Pure: no I/O, no clock, no storage.

- `shard`: the facade that the rest of the router talks to; it draws the places and says what moves an execution.
- `attendance`: runners that come and go, and what they lose; `absences`: what they may yet say of it.
- `places`: where executions are, and what was charged to them.
- `changes`: what the core says it did.
- `queues`: ready executions by flow, drawn fairly.
- `leases`: who works on what, under which fencing token.
- `waits`: executions that wait, and when to wake them.
- `lanes`: executions that have to run one after another.
- `subscriptions`: what else than a time executions wait for.
- `kept`: events that nobody waited for yet.
- `matching`: what decides whom an event concerns.

Time is a float of seconds that callers pass in and that never goes back; only wake times are of the calendar, in Unix
milliseconds. The whole of it is tested with a fake clock and hypothesis (tests/unit/router/scheduling).
"""
