"""HTTP server code of edge and admin: accepting connections, limiting them, and addresses of clients behind proxies.

- `listening`: sockets that accept connections.
- `open_connections`: the table of open connections, with their limits.
- `forwarded`: addresses of clients, and the client behind trusted proxies.

Must not live here: HTTP itself, which Tornado and the edge speak.
"""
