"""Access control of the admin port.

- `request_checks`: the checks of Host, and that a page of this process sent the request; pure.
- `sessions`: sessions and their roles, the link that logs in once, logins that can't be sent again; pure, the time is
  an argument.
- `router_clients`: clients of the router, one for each bearer token; what the router says of a token, and how often an
  address may ask.

The router alone decides what a token may do: every call on behalf of a person carries the token that she presented.
Nothing here grants a right.
"""
