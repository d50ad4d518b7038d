"""Shared kernel: code that the edge, the router, the runner, the admin process and the commands have in common.

Lives here: domain types (`model`), flow documents (`document`), expressions (`expressions`), signatures
(`signatures`), conversion to and from protobuf (`wire`, and nowhere else), configuration, errors, logs and the
Python client (`client`). `v1` is generated from protos/flowhook/v1.

Must not live here: code that is specific to one of the four processes, opens storage or speaks HTTP to senders.
Domain modules import neither grpc nor protobuf; import-linter checks it.
"""

__version__ = "0.1.0"
