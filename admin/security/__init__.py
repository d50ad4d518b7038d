"""Access control of the admin port: sessions, roles, login rate limits, and checks of Host and Origin.

- `host_check`: the check of the Host header; pure.
- `same_origin`: the check that a request was sent by a page of this process; pure.
- `sessions`: sessions and their roles; pure, the time is an argument.
- `login_limiter`: limits how often an address may present unknown tokens; pure, the time is an argument.
- `login_link`: the link that logs in once; pure, the time is an argument.
- `router_clients`: clients of the router, one for each bearer token, and the role that a token has there.

The router alone decides what a token may do: every call on behalf of a person carries the token that she presented.
Nothing here grants a right.
"""
