"""The asyncio shell around the scheduling core: it makes durable what the core decides, and tells who must know.

- `host`: one shard's core, its storage and its attached runners.
- `recorder`: what runners say, put on record and answered.
- `starts`: attempts that are yet to be written down.
- `timers`: when to look at the core again because time went by.
- `link`: what the host asks of an attached runner, and what runners report.
- `payloads`: recently accepted events, kept so that dispatch need not read them back.
- `observers`: callers that wait for an execution's end, and watchers of changes.
- `operators`: what operators do to executions.
- `waiting`: executions that wait for more than a time: for `arrivals` of events, and for `ends` of other executions;
  `deliveries` are what both give them, `offers` what they give those that something is under way of.
- `conclusions`: what becomes of executions: stored first, then told.
- `loader`: what runners need of executions that are not fresh, read from storage.
- `durable`: storing what must not be lost.
- `occurrences`: what is to be told to other flows of changes, stored with them.

Invariant: the core changes first and at once, so that nothing is assigned twice; nobody outside is told before the
change is durable.
"""
