"""Asyncio shell around the scheduling core: persists the core's decisions, then notifies runners and callers.

`shard_runtime` builds one shard, and is the interface to it. Each of its parts calls only those below it; what is to be
done by parts above is a value of `effects`, which the loop of `shard_runtime` performs:

- `journal_writer`: stores what runners report of executions.
- `timers`: deadlines of runners, and executions that wait for a time. `outage_control`: those that wait for a
  destination.
- `execution_commands`: changes that operators make to executions.
- `assignment`: assigns ready executions to runners. `event_delivery`: an event's way to the executions that listen.
- `transitions`: state transitions of executions: stored first, then published.
- `receivers`: ways to pass an event or an end to an execution that waits for it.
- `parts`: what all of these use, from `runners`, `observers`, `metrics`, `flow_statistics` and
  `state_writer`.

Invariant: the core changes first and synchronously, so that nothing is assigned twice; nobody outside is notified
before the change is durable.
"""
