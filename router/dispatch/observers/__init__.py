"""Notifies callers, watchers and readers of ends about durable changes in executions. All queues are bounded.

- `execution_records`: reads the current records of executions.
- `reply_waiters`: callers that wait for an execution's reply, or its end.
- `execution_watchers`: watchers of changes.
- `end_feed`: readers of the ends of certain executions.
- `flow_statistics`: how many executions each flow accepted and ended, by minute.
"""
