"""Bulk jobs: one action on all executions that match a filter, in the background.

- `job_runner`: runs the jobs that have not ended, a few at a time, while this router owns the shard: claims a batch of
  executions, performs the action on each, settles the outcomes; and again. `removal` is the action that deletes.
- `job_specs`: what a job is to do, and the executions that match.

Invariants: an execution is claimed durably before the action is performed on it, and the action is idempotent for one
claim. So after a crash the claims that are not settled are performed again, and each execution is taken exactly once.

Must not live here: gRPC, SQL.
"""
