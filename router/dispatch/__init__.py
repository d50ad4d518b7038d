"""The asyncio shell around the scheduling core: it makes durable what the core decides, and tells who must know.

- `host`: one shard's core, its storage and its attached runners.
- `link`: what the host asks of an attached runner, and what runners report.
- `payloads`: recently accepted events, kept so that dispatch need not read them back.
- `observers`: callers that wait for an execution's end, and watchers of changes.

Invariant: the core changes first and at once, so that nothing is assigned twice; nobody outside is told before the
change is durable.
"""
