"""Writes of a shard's state: retried until they succeed, with the lifecycle events that report them.

- `retrying_writer`: storage writes that are retried, and tasks that outlive the calls that started them.
- `lifecycle_outbox`: transactional outbox for lifecycle events, stored together with the changes they report.
- `attempt_log`: attempts under way that are not stored yet.

Nothing here knows runners, or what follows from a change.
"""
