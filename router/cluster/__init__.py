"""Ownership of the shard of a replicated log among several routers: heartbeats, claims, takeover and hand-over.

- `records`: what routers announce to each other, signed.
- `ownership`: when to claim and when to give up, without I/O.
- `shard_map`: the owner and the copies, as this router knows them. `fence_check`: confirms that this router owns it.
- `reachability`: what edges and runners report of routers. `address_checks`: what this router finds itself.
- `hand_over`: hand-overs that an operator asks for.
- `namesake`: refuses a second router of one name. `term`: an ownership, and what serves during it.
- `member`: a router that follows, claims, serves, and follows again.

Invariants: the log alone decides who the owner is; heartbeats and clocks only decide who tries, and when.
"""
