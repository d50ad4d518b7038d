"""The replicated log on NATS JetStream.

- `url`: parses `nats://...`; `connection`: the client on a thread of its own; `streams`, `servers`: create streams, and
  check streams and servers at the start.
- `log`: the log. `objects`, `facts`, `heartbeats`: the rest of what a router uses.
- `opening`: puts them together.

Invariants: nothing outside this package imports `nats`. A position is returned only after a server has said that this
very record has it. Every wait for a server ends, and none relies on a message that a server sends by itself.
"""

from router.storage.commit_log.jetstream.opening import connect, rebuild_log

__all__ = ["connect", "rebuild_log"]
