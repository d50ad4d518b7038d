"""The router: resolves flow IDs, queues events durably, leases executions to runners.

- `scheduling`: decides which execution runs next. Pure, sans-I/O; knows neither storage nor gRPC nor the clock.
- `schedules`, `event_triggers`: when flows are due, and the events that they react to. Pure as well.
- `dispatch`: the asyncio shell around `scheduling`.
- `triggers`: starts executions that no request asks for.
- `storage`: the only code that accesses the database; an interface and its implementations.
- `services`: the gRPC services; they convert between the wire format and the above.
- `app`: the composition root.

Invariant: nothing is acknowledged, to a sender or to a runner, before it is durable.
"""
