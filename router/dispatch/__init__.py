"""Asyncio shell around the scheduling core: persists the core's decisions, then notifies runners and callers.

- `host`: one shard: its scheduling core, its storage and its attached runners.
- `recorder`: stores what runners report (journal entries, outcomes of attempts), and acknowledges it.
- `starts`: attempts under way that are not stored yet.
- `timers`: asyncio timers for lease deadlines and for executions that wait for a time.
- `link`: the interface of an attached runner, and the messages that runners send.
- `exited`: the stand-in for a runner whose process has ended.
- `payloads`: memory cache of recently accepted events, so that dispatch need not read them back.
- `observers`: callers that wait for an execution's reply or end, and watchers of changes.
- `operators`: cancels, suspends, resumes and resolves executions.
- `waiting`: executions that wait for something other than a time: for events (`arrivals`) or for the ends of other
  executions (`ends`). `deliveries` writes either into the journal of a parked execution; `offers` sends either to the
  runner of an execution that is running.
- `conclusions`: state transitions of executions: stored first, then published.
- `loader`: reads events and journals from storage for assignments that are not in the memory cache.
- `durable`: storage writes that are retried until they succeed.
- `occurrences`: transactional outbox for lifecycle events, stored together with the changes they report.

Invariant: the core changes first and synchronously, so that nothing is assigned twice; nobody outside is notified
before the change is durable.
"""
