"""The only bridge between domain types and protobuf.

`convert` holds pure functions both ways, `status` the one table between error classes and gRPC codes. Whoever speaks
gRPC (edge, router, runner, client) goes through here; domain modules never import it.
"""
