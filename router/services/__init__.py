"""The gRPC services: translation between the wire and the router's own types, and nothing else.

One module per service, named for it.
`router.calls` authorises calls, and turns errors of `flowhook.errors` into gRPC statuses.
"""
