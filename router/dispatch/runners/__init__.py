"""The attached runners of a shard.

- `attached_runners`: runners by ID, their renewals, and messages to those that have a lease.
- `exited_runner`: the stand-in for a runner whose process has ended.
"""
