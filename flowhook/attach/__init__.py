"""The Attach protocol between routers and runners: its messages, without I/O, their limits, and their codec.

The halves are state machines that take messages and return effects: `runner.session` and `router.session`. Neither
imports asyncio, gRPC or protobuf, so a test can join the two over a fake link.

Rules of the stream:

- The first message in each direction is `Hello` and `Welcome`. Messages in one direction arrive in order, or not at
  all: a stream that ends loses what was not read.
- The router sends assignments only against `Credit`, which is lost with the stream. Leases outlive it.
- The runner sends unacknowledged checkpoints and unsettled outcomes again on the next stream, in order, checkpoints
  first. The router handles both idempotently: a checkpoint by its lease and index, an outcome by its lease.
- What is sent under a lease that is lost is answered by `Revocation`.

Source: protos/flowhook/v1/runner_service.proto.
"""
