"""The edge: the only code that speaks HTTP to senders. Stateless; any number of them share one port.

- `http1`: HTTP/1.1 requests, pure, sans-I/O.
- `request`: what a request is to those who answer it.
- `connection`, `server`: requests and answers over Tornado's streams; timeouts, limits, draining.
- `open_connections`: which of them gives way when there are too many.
- `answers`: what senders get, as bytes.
- `gateway`: what a request must pass, in order, before it is accepted.
- `endpoints`, `directory`: flows compiled for the gateway, and the cache of them.
- `ingest`: batches of events to the router.
- `replies`: requests that wait for the answer of their flow.
- `app`: the composition root.

Invariants: a 2xx is written only after the router said that the event is durable; a credential is never kept; nothing
that a sender does raises an exception past its own connection.
"""
