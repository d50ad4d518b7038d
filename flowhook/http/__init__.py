"""HTTP server code of edge and admin: accepting connections, limiting them, and addresses of clients behind proxies.

Must not live here: HTTP itself, which Tornado and the edge speak.
"""
