"""The router: resolves flow IDs, queues durably, leases work to runners.

- `scheduling`: what runs next. Pure, sans-I/O; knows neither storage nor gRPC nor the clock.
- `schedules`, `reactions`: when flows are due, and what events they react to. Pure as well.
- `dispatch`: the asyncio shell around `scheduling`.
- `triggers`: starts executions that no request asks for.
- `storage`: the only code that touches the database; an interface and its implementations.
- `services`: the gRPC services; they translate between the wire and the above.
- `app`: the composition root.

Invariant: nothing is acknowledged, to a sender or to a runner, before it is durable.
"""
