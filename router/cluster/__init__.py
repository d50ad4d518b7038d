"""Which of several routers owns the shard of a replicated log: the others follow, and one of them takes over.

- `records`: what routers announce to each other. `ownership`: when to claim and when to give up, without I/O.
- `shard_map`: who owns the shard, for those who ask. `fence_check`: whether this owner still is the owner.
- `member`: a router that follows, claims, serves, and follows again.

Invariants: the log alone decides who the owner is; heartbeats and clocks only decide who tries, and when.
"""
