"""The replicated log under the database: its protocols, and their implementations.

- `interface`: the log, the heartbeats of routers and the store of large objects, as protocols; their errors.
- `jetstream/`: NATS JetStream.

Invariant: a position that `append` returned is on a quorum of fsynced disks. Nothing here knows SQLite or what the
records mean.
"""
