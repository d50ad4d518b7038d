"""HTTP/1.1 to senders, behind Tornado's interfaces. It knows no flows.

- `head`, `chunked_body`, `body_framing`: what llhttp parses, and the rules beyond it; no I/O.
- `request`, `body_stream`, `header_views`: the delegate that answers requests; it runs on Tornado's own server, too.
- `transport`, `connection`, `server`: connections with deadlines and limits, and the server that drains them.
- `responses`: HTTP responses as bytes.
- `peer`, `proxy_protocol`: the sender's side of a connection.

Connections are limited by `flowhook.http.open_connections`; `flowhook.http.forwarded` finds the client behind proxies.

Invariant: no input from a sender raises an exception past its own connection.
"""
