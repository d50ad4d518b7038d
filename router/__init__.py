"""The router: resolves flow IDs, queues events durably, leases executions to runners.

- `scheduling`: decides which execution runs next. Pure, sans-I/O; knows neither storage nor gRPC nor the clock.
- `dispatch`: the asyncio shell around `scheduling`.
- `session`: the router's half of the Attach protocol. Pure as well.
- `flows`: the flows that events are for: their limits, admission, intake, schedules, and the events that start them.
- `triggers`: starts executions that no request asks for.
- `replay`, `jobs`: replays of executions, and actions on many.
- `cluster`: who owns the shard, among several routers.
- `storage`: the only code that accesses the database.
- `services`: the gRPC services; they convert between the wire format and the above.
- `calls`: what every gRPC call passes, as authorization.
- `process`: the composition roots.

Invariant: nothing is acknowledged, to a sender or to a runner, before it is durable.
"""
