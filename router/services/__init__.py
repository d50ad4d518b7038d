"""The gRPC services: translation between the wire and the router's own types, and nothing else.

One module per service, named for it. `authorization` authorises calls. Errors of `flowhook.errors` become gRPC statuses
in one place (`error_mapping`).
"""
