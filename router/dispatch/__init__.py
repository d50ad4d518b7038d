"""Asyncio shell around the scheduling core: persists the core's decisions, then notifies runners and callers.

`shard_runtime` builds one shard of these parts, and is the interface to them. Each part calls only parts below it:

- `lifecycle`: changes that runners, operators and time make to executions.
- `assignment`: assigns ready executions to runners. `delivery`: delivers events to executions that wait for them.
- `transitions`: state transitions of executions: stored first, then published.
- `waiting`: ways to pass an event or an end to an execution that waits for it.
- `attached_runners`: runners by ID, and messages to them. `observers`: those who are notified of changes.
- `persistence`: writes that are retried, with the lifecycle events that report them.
- `effects`: what is to be done by parts above, as values, which the loop of `shard_runtime` performs.
- `runner_port`: the interface of an attached runner. `faults`: errors that the flow did not cause.

Constructors take the parts they use by keyword. `clock` is monotonic, in seconds; `now_ms` is Unix time in ms.

Invariant: the core changes first and synchronously, so that nothing is assigned twice; nobody outside is notified
before the change is durable.
"""
