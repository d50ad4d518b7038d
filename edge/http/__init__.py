"""HTTP/1.1 to senders, behind Tornado's interfaces. It knows no flows.

- `head`, `chunked_body`, `body_framing`: what llhttp parses, and the rules beyond it; no I/O.
- `request`, `body_stream`, `header_views`: the delegate that answers requests; it runs on Tornado's own server, too.
- `transport`, `connection`, `server`: connections with deadlines and limits, and the server that drains them.
- `open_connections`: the table of open connections, and which one is closed when there are too many.
- `responses`: HTTP responses as bytes.
- `forwarded`, `peer`, `proxy_protocol`, `tls`: the sender's side of a connection.

Invariant: no input from a sender raises an exception past its own connection.
"""
