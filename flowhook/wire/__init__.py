"""Conversion between `flowhook.model` and protobuf.

`mapping` converts all types of the model, `convert` by hand those that are converted for each event; `status` is the
table between error classes and gRPC codes. Code that uses gRPC (edge, router, runner, client) converts through this
package; domain modules never import it. The messages of the Attach stream have a codec of their own,
`flowhook.attach.codec`.
"""
