"""The edge: the only code that speaks HTTP to senders. Stateless; any number of edges share one port.

- `http`: connections, requests and responses; knows no flows.
- `webhook`: the webhook pipeline.
- `router`: the client of the router.
- `metrics`: counters of all of them.
- `app`: the composition root.
"""
