"""Ownership of the shard of a replicated log among several routers: heartbeats, claims, takeover and hand-over.

`member` is a router that follows, claims, serves, and follows again. Its decisions are pure: `ownership` (when to claim
and when to give up), hand-overs in `shard_map`, `reachability`, of what routers announce to each other (`records`).

Invariants: the log alone decides who the owner is; heartbeats and clocks only decide who tries, and when.
"""
