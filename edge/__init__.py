"""The edge: the only code that speaks HTTP to senders. Stateless; any number of edges share one port.

- `http1`: the HTTP/1.1 parser; pure, sans-I/O.
- `request`: the request interface that handlers see.
- `transport`, `connection`, `server`: requests and responses over asyncio transports; timeouts, limits, draining.
- `open_connections`: the table of open connections, and which one is closed when there are too many.
- `http_responses`: HTTP responses as bytes.
- `webhook_pipeline`: the checks that a request passes, in order, before it is accepted.
- `compiled_endpoints`, `flow_cache`: flows compiled for the pipeline, and the cache of them.
- `ingest`: batches of events to the router.
- `replies`: requests that are held until their flow responds.
- `app`: the composition root.

Invariants: a 2xx is written only after the router has confirmed that the event is durable; a credential is never
stored; no input from a sender raises an exception past its own connection.
"""
