"""Conversion between domain types and protobuf.

`convert` has pure functions in both directions, `status` the one table between error classes and gRPC codes. Code that
uses gRPC (edge, router, runner, client) converts through this package; domain modules never import it. The messages of
the Attach stream have a codec of their own, `flowhook.attach.codec`.
"""
