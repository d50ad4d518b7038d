"""Asyncio shell around the scheduling core: persists the core's decisions, then notifies runners and callers.

`shard_runtime` builds one shard of these parts, and is the interface to them. Each part calls only parts below it:

- `execution_commands`: changes that operators make to executions. `journal_writer`: stores what runners report of them.
- `timers`: deadlines of runners, and executions that wait for a time.
- `assignment`: assigns ready executions to runners. `event_delivery`: an event's way to the executions that listen.
- `transitions`: state transitions of executions: stored first, then published.
- `receivers`: ways to pass an event or an end to an execution that waits for it.
- `runners`: the attached runners, and messages to them. `observers`: those who are notified of changes.
  `flow_statistics`: how many executions each flow accepted and ended, by minute.
- `state_writer`: writes that are retried, with the lifecycle events that report them.
- `effects`: what is to be done by parts above, as values, which the loop of `shard_runtime` performs.

Constructors take the parts they use by keyword. `clock` is monotonic, in seconds; `now_ms` is Unix time in ms.

Invariant: the core changes first and synchronously, so that nothing is assigned twice; nobody outside is notified
before the change is durable.
"""
