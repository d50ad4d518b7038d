"""HTTP/1.1 to senders, behind Tornado's interfaces. It knows no flows.

`request` runs on Tornado's own server, too. Connections are limited by `flowhook.http.open_connections`;
`flowhook.http.forwarded` finds the client behind proxies.

Invariant: no input from a sender raises an exception past its own connection.
"""
