"""Asyncio shell around the scheduling core: persists the core's decisions, then notifies runners and callers.

- `shard_runtime`: one shard: its scheduling core, its storage and its attached runners.
- `journal_writer`: stores what runners report (journal entries, outcomes of attempts), and acknowledges it.
- `attempt_log`: attempts under way that are not stored yet.
- `timers`: asyncio timers for lease deadlines and for executions that wait for a time.
- `runner_port`: the interface of an attached runner, and the messages that runners send.
- `exited_runner`: the stand-in for a runner whose process has ended.
- `event_cache`: memory cache of recently accepted events, so that dispatch need not read them back.
- `observers`: callers that wait for an execution's reply or end, and watchers of changes.
- `execution_commands`: cancels, suspends, resumes and resolves executions.
- `parked`: executions that wait for something other than a time: for events (`event_delivery`) or for the ends of other
  executions (`child_completion`). `parked_delivery` writes either into the journal of a parked execution;
  `live_delivery` sends either to the runner of an execution that is running.
- `transitions`: state transitions of executions: stored first, then published.
- `assignment_loader`: reads events and journals from storage for assignments that are not in the memory cache.
- `durable_writes`: storage writes that are retried until they succeed.
- `lifecycle_outbox`: transactional outbox for lifecycle events, stored together with the changes they report.

Invariant: the core changes first and synchronously, so that nothing is assigned twice; nobody outside is notified
before the change is durable.
"""
