"""The router: resolves flow IDs, queues durably, leases work to runners.

- `scheduling`: what runs next. Pure, sans-I/O; knows neither storage nor gRPC nor the clock.
- `storage`: the only code that touches the database; an interface and its implementations.
- `services`: the gRPC services; they translate between the wire and the two above.
- `app`: the composition root.

Invariant: nothing is acknowledged, to a sender or to a runner, before it is durable.
"""
